// Asks the service: problems as messages, Server-Timing as numbers, patience with an overload, and
// the caller's key.

import { keyNow, refused, taken, unlocked } from "./key.js";

export const BUSY = [429, 503]; // too much at a time: of this page, or of all
const MOST_TRIES = 6; // of one request in an overload
const NO_ADVICE_S = 2; // where there is no Retry-After

// "made" {detail: Made} after each answer, "busy" {detail: seconds} before a pause that an overload
// makes necessary.
export const events = new EventTarget();
let heldUntil = 0; // performance.now(): told to come again then

export class Problem extends Error {
  // status 0 = no answer came.
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

// "queue;dur=0.59, batch;desc="17 of 64", compute;dur=1.63" -> {queue: 0.59, batch: {own: 17,
// all: 64}, compute: 1.63}; null = the answer has none.
export function timingOf(header) {
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

function tell(name, detail) {
  events.dispatchEvent(new CustomEvent(name, { detail }));
}

// What an answer that is kept was made by, shown again.
let asked = 0; // requests
export const tellMade = (made) => tell("made", { ...made, number: ++asked, shown: true });

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

async function problemOf(answer) {
  const problem = Object(await answer.json().catch(() => null));
  return new Problem(answer.status, problem.title ?? `Status ${answer.status}`, problem.detail);
}

// The body as `as`: json, blob = a picture, or file = whatever it is.
async function bodyAs(answer, as, signal) {
  try {
    if (as === "json") return await answer.json();
    const data = await answer.blob();
    if (as === "file" || data.type.startsWith("image/")) return data;
  } catch (error) {
    if (signal?.aborted) throw error;
  }
  const what = { json: "JSON", blob: "a picture", file: "a file" }[as];
  const text = `What came is not ${what}, or it broke off. Is something between this page and the service?`;
  throw new Problem(0, "No answer", text);
}

function holdFor(answer) {
  const seconds = Number(answer.headers.get("Retry-After")) || NO_ADVICE_S;
  heldUntil = Math.max(heldUntil, performance.now() + seconds * 1000);
  tell("busy", seconds);
}

function bodyOf(files, raw) {
  if (!files || raw) return files?.[0].blob;
  const form = new FormData();
  for (const { name, blob } of files) form.append("file", blob, name);
  return form;
}

// One request; the answer's body, read as `as`, with its headers and timing.
//   path: of the service. query: object; what is undefined or null is left out.
//   json: sent, by POST. files: sent instead, [{name, blob, from}]; a single one as it is where
//   `raw`, else as a form. name and from, its permalink if it has one, are for the snippet.
//   fresh: by POST too, for what is another picture each time (a cache would wait for the first).
//   as: json, blob (a picture) or file (whatever comes).
//   shown: whether the page is to show this request as the one that made what is seen.
//   patient: whether what is refused for load is tried again after its Retry-After.
export async function ask(path, options = {}) {
  const { query = {}, json, files, raw, as = "json", signal } = options;
  const { shown = true, patient = true, fresh = false } = options;
  const number = ++asked;
  const known = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const search = new URLSearchParams(known).toString().replaceAll("%40", "@").replaceAll("%2C", ",");
  const address = search ? `${path}?${search}` : path;
  const method = json || files || fresh ? "POST" : "GET";
  const headers = {};
  if (json) headers["Content-Type"] = "application/json";
  else if (raw) headers["Content-Type"] = files[0].blob.type;
  const body = json ? JSON.stringify(json) : bodyOf(files, raw);
  for (let tried = 1; ; ) {
    await unlocked(signal);
    const key = keyNow();
    if (key !== null) headers.Authorization = `Bearer ${key}`;
    if (heldUntil > performance.now()) await sleep(heldUntil - performance.now(), signal);
    const started = performance.now();
    let answer;
    try {
      answer = await fetch(address, { method, headers, body, signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Problem(0, "No answer", "The service does not answer. Is it still running?");
    }
    if (answer.status === 401) {
      await refused(key, signal);
      continue;
    }
    taken(key);
    if (BUSY.includes(answer.status) && patient && tried < MOST_TRIES) {
      tried += 1;
      holdFor(answer);
      continue;
    }
    if (!answer.ok) throw await problemOf(answer);
    const data = await bodyAs(answer, as, signal);
    const made = {
      number,
      method,
      address,
      json,
      files: files?.map(({ name, blob, from }) => ({ name, from, type: blob.type })),
      raw,
      as,
      shown,
      timing: timingOf(answer.headers.get("Server-Timing")),
      ms: performance.now() - started,
      headers: answer.headers,
    };
    tell("made", made);
    return { data, ...made };
  }
}
