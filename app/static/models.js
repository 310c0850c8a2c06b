// The served models, and samples of them.

import { Problem, reportCached, request } from "./api.js";
import { pngAddress } from "./dom.js";
import { parseSeeds, writeSeeds } from "./seeds.js";
import { KINDS } from "./words.js";

export let models = [];
export let maxImages = 1; // the service's limit of images, uploads or latents in one request
export let defaultModel = null;
let defaultEncoder = null;
let aliases = {}; // further names -> names

export async function loadModels() {
  const { data } = await request("/models", { shown: false });
  models = data.models.map((card) => ({ ...card, pin: `${card.name}@${card.digest.slice(0, 12)}` }));
  // Where the operator has chosen none, the page takes the first that can do it.
  defaultModel = models.find(({ name }) => name === data.default) ?? conditional()[0] ?? models[0];
  defaultEncoder = encoders().find(({ name }) => name === data.default_encoder) ?? encoders()[0];
  maxImages = data.max_n;
  aliases = data.aliases;
}

export const conditional = () => models.filter((model) => model.labels.length);

// Whether two models work on the same kind of image: the same shape, and trained on the same data.
const compatible = (one, other) =>
  String(one.image_shape) === String(other.image_shape) && one.data.name === other.data.name;

// A served model of a kind, of the same kind of image as another if there is one; undefined = none.
export function ofKind(kind, near) {
  const all = models.filter((model) => model.kind === kind);
  return all.find((model) => compatible(model, near)) ?? all[0];
}

// Pictures of one channel are shown as ink on paper, or chalk in the dark.
export const inkOf = (model) => (model.image_shape[0] === 1 ? "ink" : "photo");

// A conditional model whose images an encoder can read; undefined = there is none.
export const generatorFor = (encoder) => conditional().find((model) => compatible(model, encoder));

// Whether it encodes a picture without its class, which nobody knows of a drawing.
const reads = (model) => model.operations.includes("encode") && !model.labels.length;

// An encoder that can read the images of these models, the default one if it can; undefined = none is
// served.
export const encoders = () => models.filter(reads);
export function encoder(...generators) {
  const fits = (model) => model && generators.every((one) => compatible(one, model));
  return fits(defaultEncoder) ? defaultEncoder : encoders().find(fits);
}

// The model that an address names, else `fallback`. If the address pins a checkpoint, it must be served.
export function modelOf(text, fallback = defaultModel) {
  if (!text) return fallback;
  const [given, digits] = text.slice(0, 128).split("@"); // no name is longer
  const name = Object.hasOwn(aliases, given) ? aliases[given] : given;
  const model = models.find((one) => one.name === name);
  if (model && (!digits || model.digest.startsWith(digits))) return model;
  throw new Problem(
    404,
    "Not served here",
    model
      ? `The link was made with another checkpoint of ${name} than the one served now.`
      : `The link was made with ${name}. Available: ${models.map((one) => one.name).join(", ")}.`,
  );
}

// Samples of a pinned model never change: key -> sample.
const cache = new Map();
const MAX_CACHED = 20000;

function store(key, sample) {
  if (cache.size >= MAX_CACHED) cache.delete(cache.keys().next().value);
  cache.set(key, sample);
}

// One sample for each seed, in order: {src, label, seed, permalink, digest, model, exchange}. label
// null = no label. Cached samples are not requested again, unless `fresh`: then the request shown is
// for exactly these seeds.
export async function samples(model, label, seeds, truncation, { fresh, ...options } = {}) {
  const key = (seed) => `${model.pin} ${label} ${seed} ${truncation}`;
  const missing = seeds.filter((seed) => fresh || !cache.has(key(seed)));
  if (!missing.length && options.shown !== false) reportCached(cache.get(key(seeds[0])).exchange);
  // Read now: the cache may drop them to store the new ones.
  const bySeed = new Map(seeds.map((seed) => [seed, cache.get(key(seed))]));
  for (let start = 0; start < missing.length; start += maxImages) {
    const query = {
      model: model.pin,
      label,
      seeds: writeSeeds(missing.slice(start, start + maxImages)),
      truncation: truncation === 1 || !model.truncation ? undefined : String(Number(truncation.toFixed(2))),
      format: "json",
    };
    const { data, ...exchange } = await request("/generate", { ...options, query });
    for (const { image, ...rest } of data.items) {
      bySeed.set(rest.seed, { ...rest, src: pngAddress(image), model, exchange });
      store(key(rest.seed), bySeed.get(rest.seed));
    }
  }
  return seeds.map((seed) => bySeed.get(seed));
}

// A sample's name in an address: "model,label,seed,truncation".
export const nameOf = ({ model, label, seed, truncation = 1 }) =>
  [model.pin, label ?? "", seed, truncation].join(",");

// The parts of such a name. Throws a Problem for another checkpoint, or a label that the model lacks.
export function partsOfName(name) {
  const parts = name.split(",");
  while (parts.length > 4) parts.splice(1, 2, `${parts[1]},${parts[2]}`); // a label with commas
  const [address, label, seed, truncationText] = parts;
  const model = modelOf(address);
  if (label && !model.labels.includes(label)) {
    const known = model.labels.length ? `its labels: ${model.labels.join(", ")}` : "it is unconditional";
    throw new Problem(404, "Not served here", `The link names a label that ${model.name} does not have; ${known}.`);
  }
  const [number] = parseSeeds(seed ?? "", 1) ?? [1];
  const truncation = Number(truncationText ?? 1);
  const valid = truncation >= 0 && truncation <= 1;
  return { model, label: label || null, seed: number, truncation: valid ? truncation : 1 };
}

export async function sampleNamed(name, signal) {
  const { model, label, seed, truncation } = partsOfName(name);
  return (await samples(model, label, [seed], truncation, { signal, shown: false }))[0];
}

// A <select> of models, by their pinned names.
export function fillModels(select, offered, chosen) {
  const text = ({ name, kind }) => `${name} (${KINDS[kind] ?? kind})`;
  select.replaceChildren(...offered.map((model) => new Option(text(model), model.pin)));
  if (chosen) select.value = chosen.pin;
}
