// Requests to the service: errors as messages, Server-Timing as numbers, retries under overload, and
// the API key.

import { currentKey, keyAccepted, keyAvailable, keyRejected } from "./key.js";

// The path under which a proxy serves the service, without a slash at its end; mostly empty.
export const root = new URL("..", import.meta.url).pathname.slice(0, -1);

const BUSY = [429, 503]; // overload: this client's share, or the whole service
const MAX_TRIES = 6; // of one request under overload
const DEFAULT_RETRY_S = 2; // without a Retry-After header

// "response" {detail: exchange} after each response, "busy" {detail: seconds} before a wait caused by
// overload.
export const events = new EventTarget();
let retryAt = 0; // by performance.now(): no request is sent before

export class Problem extends Error {
  // status 0 = there was no response.
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

// "queue;dur=0.59, batch;desc="17 of 64", compute;dur=1.63" -> {queue: 0.59, batch: {own: 17,
// all: 64}, compute: 1.63}; null = there is no such header.
function timingOf(header) {
  if (!header) return null;
  const timing = {};
  for (const part of header.split(",")) {
    const [name, ...attributes] = part.trim().split(";");
    for (const attribute of attributes) {
      const [key, value] = attribute.split("=");
      const batch = /^"?(\d+) of (\d+)"?$/.exec(value);
      if (key === "dur") timing[name] = Number(value);
      else if (batch) timing[name] = { own: Number(batch[1]), all: Number(batch[2]) };
    }
  }
  return timing;
}

function dispatch(name, detail) {
  events.dispatchEvent(new CustomEvent(name, { detail }));
}

// Report again the exchange of a response that was cached.
let requestCount = 0;
export const reportCached = (exchange) =>
  dispatch("response", { ...exchange, number: ++requestCount, shown: true });

export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

async function problemOf(response) {
  const problem = Object(await response.json().catch(() => null));
  return new Problem(response.status, problem.title ?? `Status ${response.status}`, problem.detail);
}

// The body as `as`: json, blob (an image) or file (any type).
async function bodyAs(response, as, signal) {
  try {
    if (as === "json") return await response.json();
    const data = await response.blob();
    if (as === "file" || data.type.startsWith("image/")) return data;
  } catch (error) {
    if (signal?.aborted) throw error;
  }
  const expected = { json: "JSON", blob: "an image", file: "a file" }[as];
  const text = `The response is not ${expected}, or it was cut off. Is there a proxy between this page and the service?`;
  throw new Problem(0, "No valid response", text);
}

function waitBeforeRetry(response) {
  const seconds = Number(response.headers.get("Retry-After")) || DEFAULT_RETRY_S;
  retryAt = Math.max(retryAt, performance.now() + seconds * 1000);
  dispatch("busy", seconds);
}

function bodyOf(files, raw) {
  if (!files || raw) return files?.[0].blob;
  const form = new FormData();
  for (const { name, blob } of files) form.append("file", blob, name);
  return form;
}

// Send one request. Returns {data, ...exchange}: the body read as `as`, and the request with the
// headers and timing of its response.
//   path: of the service, or an address that it has named. query: object; undefined and null values are left out.
//   json: body, by POST. files: body instead, [{name, blob, from}]; with `raw` the single file as it
//   is, else a form. name and from (its permalink, if any) are for the code snippet.
//   fresh: use POST for a new image each time (with GET a cache would serialise the requests).
//   as: json, blob (an image) or file (any type).
//   shown: whether the page shows this request as the one behind the view.
//   patient: whether a refusal under overload is retried after its Retry-After.
export async function request(path, options = {}) {
  const { query = {}, json, files, raw, as = "json", signal } = options;
  const { shown = true, patient = true, fresh = false } = options;
  const number = ++requestCount;
  const known = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const search = new URLSearchParams(known).toString().replaceAll("%40", "@").replaceAll("%2C", ",");
  const whole = path.startsWith(`${root}/`) ? path : root + path;
  const address = search ? `${whole}?${search}` : whole;
  const method = json || files || fresh ? "POST" : "GET";
  const headers = {};
  if (json) headers["Content-Type"] = "application/json";
  else if (raw) headers["Content-Type"] = files[0].blob.type;
  const body = json ? JSON.stringify(json) : bodyOf(files, raw);
  for (let attempt = 1; ; ) {
    await keyAvailable(signal);
    const key = currentKey();
    if (key !== null) headers.Authorization = `Bearer ${key}`;
    if (retryAt > performance.now()) await sleep(retryAt - performance.now(), signal);
    const started = performance.now();
    let response;
    try {
      response = await fetch(address, { method, headers, body, signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Problem(0, "No response", "The service does not respond. Is it running?");
    }
    if (response.status === 401) {
      await keyRejected(key, signal);
      continue;
    }
    keyAccepted(key);
    if (BUSY.includes(response.status) && patient && attempt < MAX_TRIES) {
      attempt += 1;
      waitBeforeRetry(response);
      continue;
    }
    if (!response.ok) throw await problemOf(response);
    const data = await bodyAs(response, as, signal);
    const exchange = {
      number,
      method,
      address,
      json,
      files: files?.map(({ name, blob, from }) => ({ name, from, type: blob.type })),
      raw,
      as,
      shown,
      timing: timingOf(response.headers.get("Server-Timing")),
      ms: performance.now() - started,
      headers: response.headers,
    };
    dispatch("response", exchange);
    return { data, ...exchange };
  }
}
