// Server-Timing as bars: where the time of a response went, the service's told apart from the rest.

import { el } from "./dom.js";

const PARTS = [
  ["queue", "waiting for a pass"],
  ["compute", "in the network"],
  ["encode", "encoding the picture"],
];

// Queue, network and encoding of one response, in milliseconds; without Server-Timing all of it.
export function serviceMs({ timing, ms }) {
  if (timing?.compute === undefined) return ms;
  return PARTS.reduce((sum, [name]) => sum + (timing[name] ?? 0), 0);
}

function bar(kind, title, ms, whole, parts) {
  const stack = el("span", { class: "stack", "aria-hidden": "true" });
  stack.style.width = `${Math.max(0.5, (100 * ms) / whole)}%`;
  for (const [name, value] of parts) {
    const share = el("span", { class: `part ${name}` });
    share.style.width = `${(100 * value) / ms}%`;
    stack.append(share);
  }
  const head = el("span", { class: "side" }, title, el("b", {}, `${ms.toFixed(ms < 10 ? 2 : 0)} ms`));
  return el("div", { class: `spent-in ${kind}` }, head, el("span", { class: "room" }, stack));
}

export function timingBars(exchange) {
  const { timing, ms } = exchange;
  if (timing?.compute === undefined) return el("p", { class: "hint" }, `Response after ${ms.toFixed(1)} ms.`);
  const inService = serviceMs(exchange);
  const rest = Math.max(0, ms - inService);
  const whole = Math.max(inService, rest);
  const parts = PARTS.map(([name]) => [name, timing[name] ?? 0]);
  const list = el("ul", { class: "legend" });
  for (const [name, about] of PARTS) {
    const text = `${about} ${(timing[name] ?? 0).toFixed(2)} ms`;
    list.append(el("li", {}, el("span", { class: `swatch ${name}`, "aria-hidden": "true" }), text));
  }
  const { own, all } = timing.batch ?? {};
  if (all > 1) list.append(el("li", {}, own === all ? `${all} pictures in one pass` : `${own} of the ${all} pictures in its pass`));
  return el(
    "div",
    { class: "timing" },
    bar("service", "In the service", inService, whole, parts),
    bar("browser", "On the way and in your browser", rest, whole, [["rest", rest || 1]]),
    list,
  );
}
