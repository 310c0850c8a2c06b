// Digits on the map: generated with their labels, then encoded. Real ones are not shipped.

import { ask } from "./api.js";
import { conditional, samples } from "./models.js";

const EACH = 30; // of a label
const FIRST_SEED = 1000;
const UNLABELLED = 300;

const found = new Map(); // encoder's pinned name -> {points, whole}

// A model with labels whose pictures the encoder reads as its own, else the encoder itself.
function sourceFor(encoder) {
  const fits = (model) =>
    String(model.image_shape) === String(encoder.image_shape) &&
    model.data.name === encoder.data.name;
  return conditional().find(fits) ?? encoder;
}

// Points {label, seed, src, mu, logvar}; told(points) after each part. Kept for the next time.
export async function encodedDigits(encoder, signal, told) {
  const kept = found.get(encoder.pin) ?? { points: [], done: new Set() };
  found.set(encoder.pin, kept);
  told(kept.points);
  const source = sourceFor(encoder);
  const run = (first, count) => Array.from({ length: count }, (_, i) => first + i);
  const parts = source.labels.length
    ? source.labels.map((label) => [label, run(FIRST_SEED, EACH)])
    : Array.from({ length: UNLABELLED / EACH }, (_, i) => [null, run(FIRST_SEED + i * EACH, EACH)]);
  for (const [label, seeds] of parts) {
    const key = `${label} ${seeds[0]}`;
    if (kept.done.has(key)) continue;
    const pictures = await samples(source, label, seeds, 1, { signal, shown: false });
    const images = pictures.map(({ src }) => src.split(",")[1]);
    const query = { model: encoder.pin };
    const { data } = await ask("/encode", { query, json: { images }, signal, shown: false });
    data.items.forEach(({ mu, logvar }, i) => kept.points.push({ ...pictures[i], mu, logvar }));
    kept.done.add(key);
    told(kept.points);
  }
}
