// Server-Timing as bars: where the time of a response went.

import { el } from "./dom.js";

const PARTS = [
  ["queue", "waiting for a batch"],
  ["compute", "in the model"],
  ["encode", "encoding the response"],
  ["rest", "browser, network, parsing the request"],
];

// The parts in milliseconds; null = the response has no Server-Timing.
export function partsOf({ timing, ms }) {
  if (!timing || timing.compute === undefined) return null;
  const { queue = 0, compute = 0, encode = 0 } = timing;
  const known = queue + compute + encode;
  return { queue, compute, encode, rest: Math.max(0, ms - known), whole: Math.max(ms, known) };
}

export function timingBars(exchange) {
  const parts = partsOf(exchange);
  if (!parts) return el("p", { class: "hint" }, `Response after ${exchange.ms.toFixed(1)} ms.`);
  const bar = el("div", { class: "stack", "aria-hidden": "true" });
  const list = el("ul", { class: "legend" });
  for (const [name, about] of PARTS) {
    const share = el("span", { class: `part ${name}` });
    share.style.width = `${(100 * parts[name]) / parts.whole}%`;
    bar.append(share);
    const text = `${about} ${parts[name].toFixed(2)} ms`;
    list.append(el("li", {}, el("span", { class: `swatch ${name}`, "aria-hidden": "true" }), text));
  }
  const { own, all } = exchange.timing.batch ?? {};
  const images = all === 1 ? "one image" : `${all} images`;
  const whose = own === all ? "all from this request" : `${own} from this request`;
  const batch = all ? `; in a batch of ${images}, ${whose}` : "";
  return el("div", {}, el("p", {}, `${parts.whole.toFixed(1)} ms${batch}`), bar, list);
}
