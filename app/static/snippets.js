// The request behind the current view, as a curl command and as a Python program.

import { events } from "./api.js";
import { $, copy } from "./dom.js";
import { currentKey } from "./key.js";
import { timingBars } from "./timing.js";
import { currentAddress } from "./state.js";

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`; // for a POSIX shell
const ENDINGS = { "image/png": "png", "image/apng": "png", "application/json": "json" };

function fileOf(exchange) {
  if (exchange.as === "json") return "response.json";
  const media = exchange.headers.get("Content-Type")?.split(";")[0];
  return `picture.${ENDINGS[media] ?? "bin"}`;
}

// The key itself is not shown: both read GENSERVE_KEY, as the project's client does.
function asCurl(exchange) {
  const keyed = currentKey() !== null;
  const authorization = keyed ? ' -H "Authorization: Bearer $GENSERVE_KEY"' : "";
  const lines = keyed ? ["# GENSERVE_KEY holds an API key of the service"] : [];
  for (const { name, from } of exchange.files ?? []) {
    if (from) lines.push(`curl ${quoted(location.origin + from)}${authorization} -o ${quoted(name)}`);
  }
  const parts = [`curl ${quoted(location.origin + exchange.address)}${authorization}`];
  if (exchange.json) {
    parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(exchange.json))}`);
  } else if (exchange.raw) {
    const [{ name, type }] = exchange.files;
    parts.push(`-H 'Content-Type: ${type}'`, `--data-binary ${quoted(`@${name}`)}`);
  } else if (exchange.files) parts.push(...exchange.files.map(({ name }) => `-F ${quoted(`file=@${name}`)}`));
  else if (exchange.method === "POST") parts.push("-X POST");
  parts.push(`-o ${fileOf(exchange)}`);
  lines.push(parts.join(" \\\n  "));
  return lines.join("\n");
}

const literal = (value) => JSON.stringify(value); // strings, numbers and lists are the same in Python
const IMAGES = /\/(generate|decode|interpolate|traverse|reconstruct)$/; // responses with images in JSON

function asPython(exchange) {
  const { pathname, searchParams } = new URL(exchange.address, location.origin);
  const keyed = currentKey() !== null;
  const bearer = `"Authorization": "Bearer " + os.environ["GENSERVE_KEY"]`;
  const lines = ["import httpx  # pip install httpx", ""];
  if (keyed) lines.unshift("import os");
  for (const [index, { name, from }] of (exchange.files ?? []).entries()) {
    const read = from
      ? `httpx.get(${literal(location.origin + from)}${keyed ? `, headers={${bearer}}` : ""}).content`
      : `open(${literal(name)}, "rb").read()`;
    lines.push(`picture_${index} = ${read}`);
  }
  const args = [literal(location.origin + pathname)];
  const query = [...searchParams].map(([name, value]) => `${literal(name)}: ${literal(value)}`);
  if (query.length) args.push(`params={${query.join(", ")}}`);
  const sent = keyed ? [bearer] : [];
  if (exchange.json) args.push(`json=${literal(exchange.json)}`);
  else if (exchange.raw) {
    args.push("content=picture_0");
    sent.unshift(`"Content-Type": ${literal(exchange.files[0].type)}`);
  } else if (exchange.files) {
    const form = exchange.files.map(
      ({ name, type }, index) => `("file", (${literal(name)}, picture_${index}, ${literal(type)}))`,
    );
    args.push(`files=[${form.join(", ")}]`);
  }
  if (sent.length) args.push(`headers={${sent.join(", ")}}`);
  const call = exchange.method === "GET" ? "get" : "post";
  lines.push(`response = httpx.${call}(`, ...args.map((part) => `    ${part},`), ")");
  lines.push("response.raise_for_status()");
  if (exchange.as === "json" && IMAGES.test(pathname)) {
    lines.unshift("import base64");
    lines.push('for number, item in enumerate(response.json()["items"]):');
    lines.push('    with open(f"{number}.png", "wb") as file:');
    lines.push('        file.write(base64.b64decode(item["image"]))');
  } else if (exchange.as === "json") lines.push("print(response.json())");
  else lines.push(`open(${literal(fileOf(exchange))}, "wb").write(response.content)`);
  return lines.join("\n");
}

let last = null;
let newest = 0; // number of the request last shown
let python = false;

function show() {
  $("request-code-of").hidden = !last;
  if (!last) return;
  $("request-code").textContent = python ? asPython(last) : asCurl(last);
  $("request-curl").setAttribute("aria-pressed", String(!python));
  $("request-python").setAttribute("aria-pressed", String(python));
  $("request-timing").replaceChildren(timingBars(last));
}

// Show the last exchange of the view that is opened, if it has one.
export function showExchange(exchange) {
  last = exchange ?? null;
  show();
}

export function bindSnippets(remember) {
  events.addEventListener("response", ({ detail: exchange }) => {
    // Responses may arrive out of order.
    if (!exchange.shown || exchange.number < newest) return;
    newest = exchange.number;
    remember(exchange);
    last = exchange;
    show();
  });
  const choose = (asPython) => () => {
    python = asPython;
    show();
  };
  $("request-curl").addEventListener("click", choose(false));
  $("request-python").addEventListener("click", choose(true));
  $("request-copy").addEventListener("click", () => copy($("request-code").textContent, "Request"));
  $("request-link").addEventListener("click", () => copy(currentAddress(), "Link"));
}
