// The request that made what is seen, as a command and as a program.

import { events } from "./api.js";
import { $, copy } from "./dom.js";
import { keyNow } from "./key.js";
import { timingBars } from "./timing.js";
import { currentAddress } from "./state.js";

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`; // for a POSIX shell
const ENDINGS = { "image/png": "png", "image/apng": "png", "application/json": "json" };

function fileOf(made) {
  if (made.as === "json") return "answer.json";
  const media = made.headers.get("Content-Type")?.split(";")[0];
  return `picture.${ENDINGS[media] ?? "bin"}`;
}

// A key is named and not shown: in both, as the project's own client does, by GENSERVE_KEY.
export function asCurl(made) {
  const keyed = keyNow() !== null;
  const shows = keyed ? ' -H "Authorization: Bearer $GENSERVE_KEY"' : "";
  const lines = keyed ? ["# GENSERVE_KEY holds a key of the service"] : [];
  for (const { name, from } of made.files ?? []) {
    if (from) lines.push(`curl ${quoted(location.origin + from)}${shows} -o ${quoted(name)}`);
  }
  const parts = [`curl ${quoted(location.origin + made.address)}${shows}`];
  if (made.json) {
    parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(made.json))}`);
  } else if (made.raw) {
    const [{ name, type }] = made.files;
    parts.push(`-H 'Content-Type: ${type}'`, `--data-binary ${quoted(`@${name}`)}`);
  } else if (made.files) parts.push(...made.files.map(({ name }) => `-F ${quoted(`file=@${name}`)}`));
  else if (made.method === "POST") parts.push("-X POST");
  parts.push(`-o ${fileOf(made)}`);
  lines.push(parts.join(" \\\n  "));
  return lines.join("\n");
}

const literal = (value) => JSON.stringify(value); // strings, numbers and lists are Python's too
const IMAGES = /^\/(generate|decode|interpolate|traverse|reconstruct)/; // answers with images in JSON

export function asPython(made) {
  const { pathname, searchParams } = new URL(made.address, location.origin);
  const keyed = keyNow() !== null;
  const bearer = `"Authorization": "Bearer " + os.environ["GENSERVE_KEY"]`;
  const lines = ["import httpx  # pip install httpx", ""];
  if (keyed) lines.unshift("import os");
  for (const [index, { name, from }] of (made.files ?? []).entries()) {
    const read = from
      ? `httpx.get(${literal(location.origin + from)}${keyed ? `, headers={${bearer}}` : ""}).content`
      : `open(${literal(name)}, "rb").read()`;
    lines.push(`picture_${index} = ${read}`);
  }
  const given = [literal(location.origin + pathname)];
  const query = [...searchParams].map(([name, value]) => `${literal(name)}: ${literal(value)}`);
  if (query.length) given.push(`params={${query.join(", ")}}`);
  const sent = keyed ? [bearer] : [];
  if (made.json) given.push(`json=${literal(made.json)}`);
  else if (made.raw) {
    given.push("content=picture_0");
    sent.unshift(`"Content-Type": ${literal(made.files[0].type)}`);
  } else if (made.files) {
    const form = made.files.map(
      ({ name, type }, index) => `("file", (${literal(name)}, picture_${index}, ${literal(type)}))`,
    );
    given.push(`files=[${form.join(", ")}]`);
  }
  if (sent.length) given.push(`headers={${sent.join(", ")}}`);
  const call = made.method === "GET" ? "get" : "post";
  lines.push(`answer = httpx.${call}(`, ...given.map((part) => `    ${part},`), ")");
  lines.push("answer.raise_for_status()");
  if (made.as === "json" && IMAGES.test(pathname)) {
    lines.unshift("import base64");
    lines.push('for number, item in enumerate(answer.json()["items"]):');
    lines.push('    with open(f"{number}.png", "wb") as file:');
    lines.push('        file.write(base64.b64decode(item["image"]))');
  } else if (made.as === "json") lines.push("print(answer.json())");
  else lines.push(`open(${literal(fileOf(made))}, "wb").write(answer.content)`);
  return lines.join("\n");
}

let last = null;
let newest = 0; // number of the request last shown
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
    // An answer may come after that of a request which was made later.
    if (!made.shown || made.number < newest) return;
    newest = made.number;
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
