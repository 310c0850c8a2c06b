// The request that made what is seen, as a command and as a program.

import { events } from "./api.js";
import { $, copy } from "./dom.js";
import { timingBars } from "./timing.js";
import { currentAddress } from "./state.js";

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`; // for a POSIX shell
const ENDINGS = { "image/png": "png", "image/apng": "png", "application/json": "json" };

function fileOf(made) {
  if (made.as === "json") return "answer.json";
  const media = made.headers.get("Content-Type")?.split(";")[0];
  return `picture.${ENDINGS[media] ?? "bin"}`;
}

export function asCurl(made) {
  const parts = [`curl ${quoted(location.origin + made.address)}`];
  if (made.json !== undefined && !made.file) {
    parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(made.json))}`);
  } else if (made.type) {
    parts.push(`-H ${quoted(`Content-Type: ${made.type}`)}`, `--data-binary @${made.file}`);
  }
  else if (made.method === "POST") parts.push("-X POST");
  parts.push(`-o ${fileOf(made)}`);
  return parts.join(" \\\n  ");
}

const literal = (value) => JSON.stringify(value); // strings, numbers and lists are Python's too

export function asPython(made) {
  const { pathname, searchParams } = new URL(made.address, location.origin);
  const lines = ["import httpx  # pip install httpx", ""];
  const given = [literal(location.origin + pathname)];
  const query = [...searchParams].map(([name, value]) => `${literal(name)}: ${literal(value)}`);
  if (query.length) given.push(`params={${query.join(", ")}}`);
  if (made.json !== undefined && !made.file) given.push(`json=${literal(made.json)}`);
  else if (made.type) {
    given.push(`content=open(${literal(made.file)}, "rb").read()`);
    given.push(`headers={"Content-Type": ${literal(made.type)}}`);
  }
  const call = made.method === "GET" ? "get" : "post";
  lines.push(`answer = httpx.${call}(`, ...given.map((part) => `    ${part},`), ")");
  lines.push("answer.raise_for_status()");
  if (made.as === "json" && /^\/(generate|decode|interpolate|traverse|reconstruct)/.test(pathname)) {
    lines.unshift("import base64");
    lines.push('for number, item in enumerate(answer.json()["items"]):');
    lines.push('    with open(f"{number}.png", "wb") as file:');
    lines.push('        file.write(base64.b64decode(item["image"]))');
  } else if (made.as === "json") lines.push("print(answer.json())");
  else lines.push(`open(${literal(fileOf(made))}, "wb").write(answer.content)`);
  return lines.join("\n");
}

let last = null;
let python = false;

function show() {
  $("made").hidden = !last;
  if (!last) return;
  $("made-code").textContent = python ? asPython(last) : asCurl(last);
  $("made-curl").setAttribute("aria-pressed", String(!python));
  $("made-python").setAttribute("aria-pressed", String(python));
  $("made-timing").replaceChildren(timingBars(last));
}

// Another view: what was shown made something else. `made` = what this view asked last.
export function showMade(made) {
  last = made ?? null;
  show();
}

export function bindSnippets(remember) {
  events.addEventListener("made", ({ detail: made }) => {
    if (!made.shown) return;
    remember(made);
    last = made;
    show();
  });
  const choose = (wanted) => () => {
    python = wanted;
    show();
  };
  $("made-curl").addEventListener("click", choose(false));
  $("made-python").addEventListener("click", choose(true));
  $("made-copy").addEventListener("click", () => copy($("made-code").textContent, "Request"));
  $("made-link").addEventListener("click", () => copy(currentAddress(), "Link"));
}
