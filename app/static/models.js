// What is served, and samples of it.

import { Problem, ask, tellMade } from "./api.js";
import { pngAddress } from "./dom.js";
import { parseSeeds, writeSeeds } from "./seeds.js";

const CHUNK = 64; // images of one request, at most

export let models = [];
export let standard = null; // the default model
let standardEncoder = null; // and the one that encodes

export async function loadModels() {
  const { data } = await ask("/models", { shown: false });
  models = data.models.map((card) => ({ ...card, pin: `${card.name}@${card.digest.slice(0, 12)}` }));
  standard = models.find((model) => model.name === data.default);
  standardEncoder = models.find((model) => model.name === data.default_encoder);
}

export const conditional = () => models.filter((model) => model.labels.length);
export const encoder = () => standardEncoder;

// The model of an address; none = `otherwise`. A pinned one must be the checkpoint that is served.
export function modelOf(text, otherwise = standard) {
  if (!text) return otherwise;
  const [name, digits] = text.slice(0, 128).split("@"); // no name is longer
  const model = models.find((one) => one.name === name);
  if (model && (!digits || model.digest.startsWith(digits))) return model;
  throw new Problem(
    404,
    "Not served here",
    model
      ? `The link was made with another checkpoint of ${name} than the one served now.`
      : `The link was made with ${name}; served are ${models.map((one) => one.name).join(", ")}.`,
  );
}

// What pinned addresses gave never changes, so it is kept: key -> sample.
const kept = new Map();
const MOST_KEPT = 20000;

function keep(key, sample) {
  if (kept.size >= MOST_KEPT) kept.delete(kept.keys().next().value);
  kept.set(key, sample);
}

// One image a seed, in order: {src, label, seed, permalink, digest, model, made}. label null = none
// asked for. What is kept is not asked for again, unless `fresh`: then the request that is shown is
// that of these seeds and no others.
export async function samples(model, label, seeds, truncation, { fresh, ...options } = {}) {
  const key = (seed) => `${model.pin} ${label} ${seed} ${truncation}`;
  const missing = seeds.filter((seed) => fresh || !kept.has(key(seed)));
  if (!missing.length && options.shown !== false) tellMade(kept.get(key(seeds[0])).made);
  for (let start = 0; start < missing.length; start += CHUNK) {
    const query = {
      model: model.pin,
      label,
      seeds: writeSeeds(missing.slice(start, start + CHUNK)),
      truncation: truncation === 1 ? undefined : String(Number(truncation.toFixed(2))),
      format: "json",
    };
    const { data, ...made } = await ask("/generate", { ...options, query });
    for (const { image, ...rest } of data.items) {
      keep(key(rest.seed), { ...rest, src: pngAddress(image), model, made });
    }
  }
  return seeds.map((seed) => kept.get(key(seed)));
}

// A sample's name in an address, "model,label,seed,truncation", and back to the sample.
export const nameOf = ({ model, label, seed, truncation = 1 }) =>
  [model.pin, label ?? "", seed, truncation].join(",");

export function partsOfName(name) {
  const [model, label, seed, truncation] = name.split(",");
  const [number] = parseSeeds(seed ?? "", 1) ?? [1];
  return { model: modelOf(model), label: label || null, seed: number, truncation: Number(truncation ?? 1) };
}

export async function sampleNamed(name, signal) {
  const { model, label, seed, truncation } = partsOfName(name);
  return (await samples(model, label, [seed], truncation, { signal, shown: false }))[0];
}

// A <select> of models, by their pinned names.
export function fillModels(select, offered, chosen) {
  select.replaceChildren(...offered.map((model) => new Option(model.name, model.pin)));
  if (chosen) select.value = chosen.pin;
}
