// Where the time goes: in one request, and in many, one by one against together.

import { events, request } from "./api.js";
import { $, el } from "./dom.js";
import { latest } from "./latest.js";
import { defaultModel, inkOf, maxImages } from "./models.js";
import { serviceMs, timingBars } from "./timing.js";

const PICTURES = 48; // of each lane

// Each lane: how many pictures a request has, and how many requests are sent at a time.
const LANES = {
  single: { each: 1, open: 1 },
  six: { each: 1, open: 6 }, // as many connections as a browser opens to a host
  whole: { each: PICTURES, open: 1 },
};

export function speed() {
  let last = null;

  events.addEventListener("response", ({ detail: exchange }) => {
    if (exchange.shown && exchange.timing) last = exchange;
    if (last) $("speed-last").replaceChildren(el("p", { class: "address" }, `${last.method} ${last.address}`), timingBars(last));
  });

  const one = latest((signal) => request("/generate", { query: { model: defaultModel.pin }, as: "blob", fresh: true, signal }));

  // One lane: pictures appear as they arrive. Returns what it took.
  async function run(name, signal) {
    const { each, open } = LANES[name];
    const size = Math.min(each, maxImages);
    const tiles = Array.from({ length: PICTURES }, () => el("img", { class: `digit ${inkOf(defaultModel)}`, alt: "" }));
    $(`lane-${name}`).replaceChildren(...tiles);
    const query = { model: defaultModel.pin, n: String(size), format: "json" };
    const started = performance.now();
    let sent = 0;
    let shown = 0;
    let inService = 0;
    let batches = 0;
    async function sender() {
      while (sent < PICTURES) {
        sent += size;
        const { data, ...exchange } = await request("/generate", { query, fresh: true, signal, shown: false, patient: false });
        inService += serviceMs(exchange);
        const { own = size, all = size } = exchange.timing?.batch ?? {};
        batches += own / all;
        for (const { image } of data.items) if (tiles[shown]) tiles[shown++].src = `data:image/png;base64,${image}`;
        $(`lane-${name}-time`).textContent = `${(performance.now() - started).toFixed(0)} ms`;
      }
    }
    await Promise.all(Array.from({ length: open }, sender));
    const result = { ms: performance.now() - started, inService, batches: Math.max(1, Math.round(batches)), requests: Math.ceil(sent / size) };
    $(`lane-${name}-time`).textContent = `${result.ms.toFixed(0)} ms`;
    const requests = result.requests === 1 ? "1 request" : `${result.requests} requests`;
    const spent = result.requests === 1 ? `${inService.toFixed(1)} ms in the service` : `${(inService / result.requests).toFixed(1)} ms each in the service`;
    const passed = result.batches === 1 ? "1 batch" : `about ${result.batches} batches`;
    $(`lane-${name}-note`).textContent = `${requests}, ${spent}, ${passed}`;
    return result;
  }

  const race = latest(async (signal) => {
    // Not disabled: a disabled button loses the focus.
    const button = $("speed-race");
    button.setAttribute("aria-disabled", "true");
    const summary = $("speed-summary");
    summary.textContent = "Running…";
    for (const name of Object.keys(LANES)) {
      $(`lane-${name}`).replaceChildren();
      for (const part of ["time", "note"]) $(`lane-${name}-${part}`).textContent = "";
    }
    try {
      const single = await run("single", signal);
      await run("six", signal);
      const whole = await run("whole", signal);
      const times = (single.ms / whole.ms).toFixed(0);
      summary.textContent = `Together, as many pictures (${PICTURES}) came ${times} times as fast.`;
    } finally {
      button.removeAttribute("aria-disabled");
      if (summary.textContent === "Running…") summary.textContent = "The race was not finished.";
    }
  });

  $("speed-one").addEventListener("click", () => one());
  $("speed-race").addEventListener("click", ({ target }) => {
    if (!target.hasAttribute("aria-disabled")) race();
  });

  return {
    open() {
      one();
    },
    close() {
      for (const work of [one, race]) work.stop();
    },
    params: () => ({}),
  };
}
