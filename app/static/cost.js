// Where the time goes: in one request, in two hundred, and in the service as a whole.

import { BUSY, Problem, events, request } from "./api.js";
import { $, el } from "./dom.js";
import { latest } from "./latest.js";
import { defaultModel } from "./models.js";
import { timingBars } from "./timing.js";

const BURST = 200; // requests
const POLL_MS = 1000;
const READINGS = 60; // of the rate, in the chart
const BINS = 10; // of the latency histogram

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
const round = (ms) => (ms < 10 ? ms.toFixed(1) : ms.toFixed(0));

// A bar for each [label, count]; the longest fills the width.
function bars(rows) {
  const most = Math.max(...rows.map(([, count]) => count), 1);
  return el(
    "ol",
    {},
    ...rows.map(([label, count]) => {
      const fill = el("span", { class: "fill", "aria-hidden": "true" });
      fill.style.width = `${(100 * count) / most}%`;
      return el("li", {}, el("span", { class: "name" }, label), el("span", { class: "room" }, fill), `${count}`);
    }),
  );
}

function batchRows(sizes) {
  const counts = new Map();
  for (const size of sizes) counts.set(size, (counts.get(size) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => a - b).map(([size, count]) => [`${size}`, count]);
}

// Queue, model and encoding of one response, in milliseconds.
function serviceMs({ timing, ms }) {
  const { queue = 0, compute, encode = 0 } = timing ?? {};
  return compute === undefined ? ms : queue + compute + encode;
}

function latencyRows(sorted) {
  if (!sorted.length) return []; // all failed
  const width = Math.max(1, Math.ceil(quantile(sorted, 1) / BINS));
  return Array.from({ length: BINS }, (_, bin) => {
    const [from, to] = [bin * width, (bin + 1) * width];
    const inside = sorted.filter((ms) => ms >= from && (ms < to || bin === BINS - 1));
    return [`${from}–${to}`, inside.length];
  });
}

export function cost() {
  let polling = 0;
  let before = null; // {at, images}
  let idle = true; // no request for /status is in flight
  let rates = [];
  let last = null;

  events.addEventListener("response", ({ detail: exchange }) => {
    if (exchange.shown && exchange.timing) last = exchange;
    if (last) $("cost-last").replaceChildren(el("p", { class: "address" }, `${last.method} ${last.address}`), timingBars(last));
  });

  const one = latest((signal) => request("/generate", { query: { model: defaultModel.pin }, as: "blob", fresh: true, signal }));

  const many = latest(async (signal) => {
    // Not disabled: a disabled button loses the focus.
    const button = $("cost-many");
    button.setAttribute("aria-disabled", "true");
    const summary = $("cost-summary");
    const sending = `Sending ${BURST}…`;
    summary.textContent = sending;
    const n = $("cost-each").value;
    const query = { model: defaultModel.pin, n };
    const options = { query, as: "blob", fresh: true, signal, shown: false, patient: false };
    try {
      const passes = await passesUntilNow(signal);
      const started = performance.now();
      const sent = Array.from({ length: BURST }, () => request("/generate", options));
      const settled = await Promise.allSettled(sent);
      const seconds = (performance.now() - started) / 1000;
      if (signal.aborted) return;
      const responses = settled.filter(({ status }) => status === "fulfilled").map(({ value }) => value);
      const refused = settled.filter(({ reason }) => reason instanceof Problem && BUSY.includes(reason.status));
      const failed = settled.find(({ reason }) => reason && !refused.some((one) => one.reason === reason));
      if (failed) throw failed.reason;
      const spent = (await passesUntilNow(signal)) - passes;
      report(responses, refused.length, seconds, spent, Number(n));
    } finally {
      button.removeAttribute("aria-disabled");
      if (summary.textContent === sending) summary.textContent = `Not all ${BURST} got a response.`;
    }
  });

  async function passesUntilNow(signal) {
    const { data } = await request("/status", { signal, shown: false });
    return data.forward_passes;
  }

  function report(responses, refused, seconds, passes, each) {
    // Most of the browser's time is its own queue: it sends six requests at a time.
    const sorted = responses.map(serviceMs).sort((a, b) => a - b);
    const parts = [
      `${responses.length} responses in ${seconds.toFixed(2)} s, ${Math.round(responses.length / seconds)} per second.`,
    ];
    if (responses.length) {
      parts.push(`In the service: median ${round(quantile(sorted, 0.5))} ms, 99th percentile ${round(quantile(sorted, 0.99))} ms.`);
      parts.push(`${responses.length * each} images took ${passes} forward passes.`);
    }
    if (refused) parts.push(`${refused} were refused at once because of overload.`);
    parts.push("A browser opens six connections to a host, so at most six requests are in flight at a time; the others wait in the browser, which is not counted.");
    $("cost-summary").textContent = parts.join(" ");
    $("cost-batches").replaceChildren(bars(batchRows(responses.map(({ timing }) => timing.batch.all))));
    $("cost-latency").replaceChildren(bars(latencyRows(sorted)));
  }

  const poll = latest(async (signal) => {
    idle = false;
    const status = request("/status", { signal, shown: false });
    const { data } = await status.finally(() => (idle = true));
    const now = { at: performance.now(), images: data.images };
    if (before) {
      const rate = (1000 * (now.images - before.images)) / (now.at - before.at);
      rates = [...rates, Math.max(0, rate)].slice(-READINGS);
    }
    before = now;
    const { max_batch: most, passes } = data.models[defaultModel.name].operations.generate;
    const pass = passes.map(({ images, milliseconds }) => `${images}: ${milliseconds.toFixed(2)} ms`);
    const facts = [
      ["Images per second", Math.round(rates[rates.length - 1] ?? 0)],
      ["Queued images", data.queued_images],
      ["Predicted wait", `${(1000 * data.predicted_wait_seconds).toFixed(1)} ms`],
      [`Maximum batch of ${defaultModel.name}`, most],
      ["Responses", data.requests],
      ["Refused under overload", data.refused_requests],
      ["Images per forward pass, since start", (data.images / Math.max(1, data.forward_passes)).toFixed(2)],
      ["Processes", data.processes],
      ["Forward pass by batch size", `${pass[0]}, ${pass[pass.length - 1]}`],
    ];
    $("cost-now").replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, `${value}`))));
    chart();
  }, { quiet: true });

  function chart() {
    const canvas = $("cost-rate");
    const density = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * density;
    canvas.height = height * density;
    const pen = canvas.getContext("2d");
    pen.scale(density, density);
    const style = getComputedStyle(canvas);
    const most = Math.max(...rates, 10);
    pen.strokeStyle = style.getPropertyValue("--accent");
    pen.lineWidth = 2;
    pen.beginPath();
    rates.forEach((rate, i) => {
      const x = ((READINGS - rates.length + i) / (READINGS - 1)) * width;
      pen.lineTo(x, height - 2 - (rate / most) * (height - 18));
    });
    pen.stroke();
    pen.fillStyle = style.color;
    pen.font = "12px system-ui, sans-serif";
    pen.fillText(`${Math.round(most)} per second`, 0, 11);
  }

  $("cost-one").addEventListener("click", () => one());
  $("cost-many").addEventListener("click", ({ target }) => {
    if (!target.hasAttribute("aria-disabled")) many();
  });

  return {
    open() {
      one();
      poll();
      clearInterval(polling);
      // Not while one is in flight: it would be cancelled, and on a slow network none would finish.
      polling = setInterval(() => idle && poll(), POLL_MS);
    },
    close() {
      clearInterval(polling);
      before = null;
      rates = [];
      one.stop();
      poll.stop();
      many.stop();
    },
    params: () => ({}),
  };
}
