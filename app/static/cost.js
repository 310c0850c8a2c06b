// Where the time goes: one request, two hundred, and the service as a whole.

import { BUSY, Problem, ask, events } from "./api.js";
import { $, el } from "./dom.js";
import { latest } from "./latest.js";
import { standard } from "./models.js";
import { timingBars } from "./timing.js";

const MANY = 200;
const POLL_MS = 1000;
const KEPT = 60; // readings of the rate
const BINS = 10; // of the latencies

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
const round = (ms) => (ms < 10 ? ms.toFixed(1) : ms.toFixed(0));

// [label, count] as rows with bars; the longest fills the width.
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

function latencyRows(sorted) {
  if (!sorted.length) return []; // none was answered
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
  let awaited = false; // an answer of /status
  let rates = [];
  let last = null;

  events.addEventListener("made", ({ detail: made }) => {
    if (made.shown && made.timing) last = made;
    if (last) $("cost-last").replaceChildren(el("p", { class: "address" }, `${last.method} ${last.address}`), timingBars(last));
  });

  const one = latest((signal) => ask("/generate", { query: { model: standard.pin }, as: "blob", fresh: true, signal }));

  const many = latest(async (signal) => {
    // Not disabled: that would take the focus from who pressed it.
    const button = $("cost-many");
    button.setAttribute("aria-disabled", "true");
    const summary = $("cost-summary");
    const sending = `Sending ${MANY}…`;
    summary.textContent = sending;
    const n = $("cost-each").value;
    const query = { model: standard.pin, n };
    const options = { query, as: "blob", fresh: true, signal, shown: false, patient: false };
    try {
      const passes = await passesUntilNow(signal);
      const started = performance.now();
      const sent = Array.from({ length: MANY }, () => ask("/generate", options));
      const settled = await Promise.allSettled(sent);
      const seconds = (performance.now() - started) / 1000;
      if (signal.aborted) return;
      const answers = settled.filter(({ status }) => status === "fulfilled").map(({ value }) => value);
      const refused = settled.filter(({ reason }) => reason instanceof Problem && BUSY.includes(reason.status));
      const failed = settled.find(({ reason }) => reason && !refused.some((one) => one.reason === reason));
      if (failed) throw failed.reason;
      const spent = (await passesUntilNow(signal)) - passes;
      report(answers, refused.length, seconds, spent, Number(n));
    } finally {
      button.removeAttribute("aria-disabled");
      if (summary.textContent === sending) summary.textContent = `Not all ${MANY} were answered.`;
    }
  });

  async function passesUntilNow(signal) {
    const { data } = await ask("/status", { signal, shown: false });
    return data.forward_passes;
  }

  function report(answers, refused, seconds, passes, each) {
    const sorted = answers.map(({ ms }) => ms).sort((a, b) => a - b);
    const parts = [
      `${answers.length} answers in ${seconds.toFixed(2)} s, ${Math.round(answers.length / seconds)} a second.`,
    ];
    if (answers.length) {
      parts.push(`Half within ${round(quantile(sorted, 0.5))} ms, 99 of 100 within ${round(quantile(sorted, 0.99))} ms.`);
      parts.push(`${answers.length * each} images took ${passes} passes through the network.`);
    }
    if (refused) parts.push(`${refused} were refused at once: the service had more to do than it can in time.`);
    parts.push("A browser opens six connections to a host, so no more are on their way at a time.");
    $("cost-summary").textContent = parts.join(" ");
    $("cost-batches").replaceChildren(bars(batchRows(answers.map(({ timing }) => timing.batch.all))));
    $("cost-latency").replaceChildren(bars(latencyRows(sorted)));
  }

  const poll = latest(async (signal) => {
    awaited = true;
    const asking = ask("/status", { signal, shown: false });
    const { data } = await asking.finally(() => (awaited = false));
    const now = { at: performance.now(), images: data.images };
    if (before) {
      const rate = (1000 * (now.images - before.images)) / (now.at - before.at);
      rates = [...rates, Math.max(0, rate)].slice(-KEPT);
    }
    before = now;
    const { max_batch: most, passes } = data.models[standard.name].operations.generate;
    const pass = passes.map(({ images, milliseconds }) => `${images}: ${milliseconds.toFixed(2)} ms`);
    const facts = [
      ["Images a second", Math.round(rates[rates.length - 1] ?? 0)],
      ["Waiting images", data.queued_images],
      ["Predicted wait", `${(1000 * data.predicted_wait_seconds).toFixed(1)} ms`],
      [`Images in a batch of ${standard.name}, at most`, most],
      ["Answered requests", data.requests],
      ["Refused for load", data.refused_requests],
      ["Images a pass, since start", (data.images / Math.max(1, data.forward_passes)).toFixed(2)],
      ["Processes", data.processes],
      ["A pass for so many images takes", `${pass[0]}, ${pass[pass.length - 1]}`],
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
      const x = ((KEPT - rates.length + i) / (KEPT - 1)) * width;
      pen.lineTo(x, height - 2 - (rate / most) * (height - 18));
    });
    pen.stroke();
    pen.fillStyle = style.color;
    pen.font = "12px system-ui, sans-serif";
    pen.fillText(`${Math.round(most)} a second`, 0, 11);
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
      // Not while one is under way: the next would give it up, and on a slow network none would come.
      polling = setInterval(() => awaited || poll(), POLL_MS);
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
