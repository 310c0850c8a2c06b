// What is served, and samples of it.

import { Problem, ask, tellMade } from "./api.js";
import { pngAddress } from "./dom.js";
import { parseSeeds, writeSeeds } from "./seeds.js";

export let models = [];
export let mostAtOnce = 1; // images, pictures or latents of one request: the service's own limit
export let standard = null; // the default model
let standardEncoder = null; // and the one that encodes

export async function loadModels() {
  const { data } = await ask("/models", { shown: false });
  models = data.models.map((card) => ({ ...card, pin: `${card.name}@${card.digest.slice(0, 12)}` }));
  standard = models.find((model) => model.name === data.default);
  standardEncoder = models.find((model) => model.name === data.default_encoder);
  mostAtOnce = data.max_n;
}

export const conditional = () => models.filter((model) => model.labels.length);

// Whether one model's pictures are what the other knows: of one shape, and learnt from one set.
const alike = (one, other) =>
  String(one.image_shape) === String(other.image_shape) && one.data.name === other.data.name;

// The model with labels whose pictures an encoder reads as its own; undefined = there is none.
export const giverFor = (encoding) => conditional().find((model) => alike(model, encoding));

// The encoder that reads these models' pictures as its own, the default one if it does: undefined =
// none is served.
export function encoder(...of) {
  const encoding = models.filter((model) => model.operations.includes("encode"));
  const fits = (model) => model && of.every((one) => alike(one, model));
  return fits(standardEncoder) ? standardEncoder : encoding.find(fits);
}

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
  // What is kept now may have to go for what is to come.
  const found = new Map(seeds.map((seed) => [seed, kept.get(key(seed))]));
  for (let start = 0; start < missing.length; start += mostAtOnce) {
    const query = {
      model: model.pin,
      label,
      seeds: writeSeeds(missing.slice(start, start + mostAtOnce)),
      truncation: truncation === 1 ? undefined : String(Number(truncation.toFixed(2))),
      format: "json",
    };
    const { data, ...made } = await ask("/generate", { ...options, query });
    for (const { image, ...rest } of data.items) {
      found.set(rest.seed, { ...rest, src: pngAddress(image), model, made });
      keep(key(rest.seed), found.get(rest.seed));
    }
  }
  return seeds.map((seed) => found.get(seed));
}

// A sample's name in an address, "model,label,seed,truncation", and back to the sample.
export const nameOf = ({ model, label, seed, truncation = 1 }) =>
  [model.pin, label ?? "", seed, truncation].join(",");

// What cannot be followed is a Problem: another checkpoint, or a label that the model has not.
export function partsOfName(name) {
  const parts = name.split(",");
  while (parts.length > 4) parts.splice(1, 2, `${parts[1]},${parts[2]}`); // a label with commas
  const [address, label, seed, cut] = parts;
  const model = modelOf(address);
  if (label && !model.labels.includes(label)) {
    const known = model.labels.length ? `it knows ${model.labels.join(", ")}` : "it knows no labels";
    throw new Problem(404, "Not served here", `The link asks ${model.name} for another label; ${known}.`);
  }
  const [number] = parseSeeds(seed ?? "", 1) ?? [1];
  const truncation = Number(cut ?? 1);
  const usual = !(truncation >= 0 && truncation <= 1);
  return { model, label: label || null, seed: number, truncation: usual ? 1 : truncation };
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
