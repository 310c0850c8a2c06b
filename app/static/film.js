// The film of a training run: one WebP with the run's own pictures, one under the other, and in its XMP
// when each was taken and the losses between (training/runs/film.py). Its player.

import { $ } from "./dom.js";
import { mayMove } from "./motion.js";

const FILM_MS = 600; // a picture: slow enough to be looked at
const NARROW = 480; // a screen's pixels; below, a picture's right half lies under its left
const EARLY = 0.01; // share of the training by which a film has to begin to show its first steps
const MARGIN = [34, 20]; // pixels for the numbers of the chart: left, below
const QUANTILE = 0.99; // of the losses that the chart has room for: the first ones may be far off

// The JSON in the XMP of a WebP; null = there is none.
async function notesOf(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const view = new DataView(bytes.buffer);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const kind = String.fromCharCode(...bytes.subarray(at, at + 4));
    const size = view.getUint32(at + 4, true);
    if (kind === "XMP ") {
      const text = new TextDecoder().decode(bytes.subarray(at + 8, at + 8 + size));
      const parsed = new DOMParser().parseFromString(text, "application/xml");
      const found = [...parsed.querySelectorAll("*")].find((node) => node.hasAttribute("genserve:film"));
      return found ? JSON.parse(found.getAttribute("genserve:film")) : null;
    }
    at += 8 + size + (size % 2);
  }
  return null;
}

// {bitmap, frames: images seen at each, images: seen at each loss, losses: {name: values}, chance}
export async function filmOf(blob) {
  const notes = await notesOf(blob);
  return notes && { ...notes, bitmap: await createImageBitmap(blob) };
}

// The player: the film's pictures, the losses with the moment, a slider and a button.
export function player() {
  const scrub = $("film-scrub");
  let found = null;
  let playing = 0;

  function turnTo(index) {
    const { bitmap, frames } = found;
    const canvas = $("film-frame");
    const rows = innerWidth < NARROW ? 2 : 1;
    const [width, height] = [bitmap.width / rows, bitmap.height / frames.length];
    canvas.width = width;
    canvas.height = height * rows;
    const pen = canvas.getContext("2d");
    for (let row = 0; row < rows; row++) {
      pen.drawImage(bitmap, row * width, index * height, width, height, 0, row * height, width, height);
    }
    const seen = `after ${frames[index].toLocaleString("en")} pictures`;
    canvas.setAttribute("aria-label", `The generator's pictures ${seen}`);
    $("film-when").textContent = seen;
    scrub.value = index;
    scrub.setAttribute("aria-valuetext", seen);
    chart(frames[index]);
  }

  // Losses by the pictures seen. That axis is logarithmic: most happens early.
  function chart(now) {
    const canvas = $("film-losses");
    const density = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * density;
    canvas.height = height * density;
    const pen = canvas.getContext("2d");
    pen.scale(density, density);
    const style = getComputedStyle(canvas);
    const { images, losses, chance = {} } = found;
    const sorted = Object.values(losses).flat().sort((a, b) => a - b);
    const most = 1.1 * Math.max(sorted[Math.floor(QUANTILE * (sorted.length - 1))], ...Object.values(chance));
    const [first, last] = [Math.max(1, images[0]), Math.max(images.at(-1), found.frames.at(-1))];
    const [left, bottom] = MARGIN;
    const share = (value) => Math.max(0, Math.min(1, value));
    const x = (seen) => left + share(Math.log(seen / first) / Math.log(last / first)) * (width - left - 2);
    const y = (value) => (height - bottom) * (1 - share(value / most)) + 1;
    const line = (points) => {
      pen.beginPath();
      for (const point of points) pen.lineTo(...point);
      pen.stroke();
    };
    pen.font = `12px ${style.fontFamily}`;
    pen.fillStyle = pen.strokeStyle = style.color;
    pen.textAlign = "right";
    for (const value of [0, most / 2, most]) pen.fillText(value.toFixed(1), left - 6, Math.max(10, y(value)));
    line([[left, y(most)], [left, y(0)], [width, y(0)]]);
    for (let tick = 10 ** Math.ceil(Math.log10(first)); tick <= last; tick *= 10) {
      pen.textAlign = x(tick) > width - 40 ? "right" : "center";
      pen.fillText(tick.toLocaleString("en"), x(tick), height - 4);
    }
    line([[x(Math.max(first, now)), y(most)], [x(Math.max(first, now)), y(0)]]);
    pen.lineWidth = 2;
    for (const [name, values] of Object.entries(losses)) {
      pen.strokeStyle = style.getPropertyValue(`--${name}`) || style.color;
      line(values.map((value, i) => [x(images[i]), y(value)]));
      if (!chance[name]) continue;
      pen.setLineDash([2, 5]);
      line([[left, y(chance[name])], [width, y(chance[name])]]);
      pen.setLineDash([]);
    }
  }

  function stop() {
    clearInterval(playing);
    playing = 0;
    $("film-play").textContent = "Play";
  }

  function play() {
    let at = Number(scrub.value) === found.frames.length - 1 ? -1 : Number(scrub.value);
    $("film-play").textContent = "Pause";
    playing = setInterval(() => {
      at += 1;
      turnTo(at);
      if (at === found.frames.length - 1) stop();
    }, FILM_MS);
  }

  $("film-play").addEventListener("click", () => (playing ? stop() : play()));
  scrub.addEventListener("input", () => {
    stop();
    turnTo(Number(scrub.value));
  });
  new ResizeObserver(() => found && turnTo(Number(scrub.value))).observe($("film-losses"));

  // It plays once by itself, when it is first seen.
  let wasSeen = false;
  const seen = new IntersectionObserver(([{ isIntersecting }]) => {
    if (!isIntersecting) return;
    wasSeen = true;
    seen.disconnect();
    if (mayMove() && !playing && scrub.value === "0") play();
  });

  return {
    stop() {
      seen.disconnect();
      stop();
    },
    show(given, model) {
      found = given;
      scrub.max = found.frames.length - 1;
      $("film-of").textContent = model.name;
      $("film-late").hidden = found.frames[0] <= EARLY * found.frames.at(-1);
      turnTo(0);
      if (!wasSeen) seen.observe($("film-frame"));
    },
  };
}
