// Digits on the map: generated with their labels, then encoded. Real ones are not shipped.

import { ask } from "./api.js";
import { giverFor, mostAtOnce, samples } from "./models.js";

const EACH = 30; // of a label
const FIRST_SEED = 1000;
const UNLABELLED = 300;

const found = new Map(); // encoder's pinned name -> {points, done: keys of the parts that came}

// Who makes the digits for an encoder's map: a model with labels, else the encoder itself.
export const sourceFor = (encoder) => giverFor(encoder) ?? encoder;

// [label, seeds] of each request: together the whole map.
function partsOf(source) {
  const run = (count) => Array.from({ length: count }, (_, i) => FIRST_SEED + i);
  const wanted = source.labels.length
    ? source.labels.map((label) => [label, run(EACH)])
    : [[null, run(UNLABELLED)]];
  const size = Math.min(EACH, mostAtOnce);
  return wanted.flatMap(([label, seeds]) =>
    Array.from({ length: Math.ceil(seeds.length / size) }, (_, part) => [
      label,
      seeds.slice(part * size, (part + 1) * size),
    ]),
  );
}

// Points {label, seed, src, mu, logvar}; told(points) after each part. Kept for the next time.
export async function encodedDigits(encoder, signal, told) {
  const kept = found.get(encoder.pin) ?? { points: [], done: new Set() };
  found.set(encoder.pin, kept);
  told([...kept.points]);
  const source = sourceFor(encoder);
  for (const [label, seeds] of partsOf(source)) {
    const key = `${label} ${seeds[0]}`;
    if (kept.done.has(key)) continue;
    const pictures = await samples(source, label, seeds, 1, { signal, shown: false });
    const images = pictures.map(({ src }) => src.split(",")[1]);
    const query = { model: encoder.pin };
    const { data } = await ask("/encode", { query, json: { images }, signal, shown: false });
    if (signal.aborted) return;
    data.items.forEach(({ mu, logvar }, i) => kept.points.push({ ...pictures[i], mu, logvar }));
    kept.done.add(key);
    told([...kept.points]);
  }
}
