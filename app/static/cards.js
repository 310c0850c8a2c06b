// A card for each model: what it is, its metrics, and samples of the same seeds.

import { request, root } from "./api.js";
import { $, el, randomSeed } from "./dom.js";
import { latest } from "./latest.js";
import { encoder, inkOf, models } from "./models.js";
import { MAX_SEED, parseSeeds } from "./seeds.js";

const COUNT = 16; // samples of each model
const MAX_FIRST_SEED = MAX_SEED - COUNT + 1;

const KINDS = {
  gan: ["GAN", "Draws sharp pictures of what it was trained on, of any class: no label can be asked for."],
  cgan: ["Conditional GAN", "Draws sharp pictures of the label that is asked for, in the style of the seed."],
  vae: ["Variational autoencoder", "Encodes a picture to numbers and decodes them. Its pictures are softer than a GAN's."],
  graph: ["Imported generator", "Trained elsewhere and imported as a graph. What it was trained on is what its card says."],
};

// [metric of the card, name, meaning]; only those that the card has are shown.
const METRICS = [
  ["frechet_test_ratio", "Fréchet distance, relative", "to test images, divided by that of real training images; 1 is best"],
  ["precision", "Precision", "share of samples within the real data"],
  ["recall", "Recall", "share of real images within the samples"],
  ["conditional_accuracy", "Label accuracy", "share of samples that a classifier assigns to the requested label"],
  ["memorised", "Memorised", "share of samples that are suspiciously close to one training image"],
  ["reconstruction_mse", "Reconstruction error", "mean squared error on test images, pixels in 0 to 1"],
  ["nll_binarised_nats", "Negative log-likelihood", "of binarised test images, in nats; lower is better"],
];

const SAMPLES_OF_VAE = "Test images with their reconstructions below, then uncurated samples";
const PICTURES = {
  samples: "Uncurated samples",
  morph: "Interpolation between samples",
  nearest: "The samples closest to training images, with their nearest training images below",
  map: "Test images in the latent space, projected to two dimensions",
  curves: "Losses and metrics during training",
  film: "The same samples during training, from the first picture to the last",
};

function facts(model) {
  const list = el("dl", { class: "facts" });
  const add = (name, value, about) =>
    list.append(
      el("div", {}, el("dt", {}, name, about ? el("small", {}, about) : ""), el("dd", {}, `${value}`)),
    );
  for (const [metric, name, about] of METRICS) {
    if (model.metrics[metric] !== undefined) add(name, model.metrics[metric], about);
  }
  add("Latent dimensions", model.latent_dim);
  const { images_seen: seen, seconds } = model.training;
  const { training_images: images } = model.data;
  if (images) add("Trained on", `${images.toLocaleString("en")} images`);
  if (seen) {
    const passes = images ? ` (each ${Math.round(seen / images).toLocaleString("en")} times)` : "";
    add("Training", `${seen.toLocaleString("en")} images seen${passes}, in ${Math.round(seconds / 60)} min`);
  }
  return list;
}

// The service lists pictures of training data only if their licence is known; the caption has it.
function figureOf(model, kind, data) {
  const ofVae = kind === "samples" && model.kind === "vae";
  const caption = (ofVae ? SAMPLES_OF_VAE : PICTURES[kind]) ?? kind;
  const showsData = ofVae || kind === "nearest";
  const credit = showsData ? ` (${model.data.name}: ${model.data.licence})` : "";
  const image = el("img", { src: URL.createObjectURL(data), alt: caption });
  return el("figure", {}, image, el("figcaption", {}, `${caption}${credit}`));
}

function pictures(model) {
  const listed = Object.entries(model.pictures);
  if (!listed.length) return [];
  const folded = el("details", { class: "card-pictures" }, el("summary", {}, "Pictures of this model"));
  // Loaded when opened, and by the page, because an <img> cannot send an API key.
  const load = latest(async (signal) => {
    if (!folded.open || folded.querySelector("img")) return;
    const options = { as: "blob", signal, shown: false };
    const figures = await Promise.all(
      listed.map(async ([kind, address]) => figureOf(model, kind, (await request(address, options)).data)),
    );
    folded.append(...figures);
  });
  folded.addEventListener("toggle", () => load());
  return [folded];
}

export function cards(app) {
  let seed = 1;
  const sheets = new Map(); // pinned name -> {img, link}

  const show = latest(async (signal) => {
    const images = [...sheets.values()].map(({ img }) => img);
    for (const img of images) img.classList.toggle("loading", !img.src);
    try {
      await Promise.all(models.map((model, index) => fill(model, { signal, shown: index === 0 })));
    } finally {
      for (const img of images) img.classList.remove("loading"); // after a failure too
    }
  });

  async function fill(model, options) {
    const query = { model: model.pin, seed: String(seed), n: String(COUNT), scale: "3" };
    const { data, address } = await request("/generate", { query, as: "blob", ...options });
    const { img, link } = sheets.get(model.pin);
    if (img.src) URL.revokeObjectURL(img.src);
    img.src = URL.createObjectURL(data);
    img.classList.remove("loading");
    img.alt = `${COUNT} samples of ${model.name}, seeds ${seed} to ${seed + COUNT - 1}`;
    link.href = address;
  }

  function cardOf(model) {
    const [kind, about] = KINDS[model.kind] ?? [model.kind, ""];
    const img = el("img", { class: `sheet ${inkOf(model)} loading`, alt: "", width: 336, height: 336 });
    const link = el("a", {}, img);
    sheets.set(model.pin, { img, link });
    const board = el("button", { type: "button" }, "Look at its pictures");
    board.addEventListener("click", () => app.go("look", { model: model.pin }));
    const whole = el("a", { class: "button", href: `${root}/models/${model.name}` }, "Full card");
    return el(
      "article",
      { class: "card", "aria-label": model.name },
      el("h3", {}, kind),
      el("p", { class: "hint" }, model.name),
      link,
      el("p", {}, about),
      el("details", {}, el("summary", {}, "For programmers: figures"), facts(model)),
      el("p", { class: "controls" }, board, whole),
      ...pictures(model),
    );
  }

  const order = ["gan", "cgan", "vae", "graph"];
  const place = (model) => order.indexOf(model.kind) - (model === encoder()) / 2;
  const sorted = [...models].sort((a, b) => place(a) - place(b));
  $("model-cards").append(...sorted.map(cardOf));

  const seedIn = (text) => {
    const [parsed] = parseSeeds(text, 1) ?? [null];
    return parsed === null ? null : Math.min(parsed, MAX_FIRST_SEED);
  };
  $("models-seed").max = MAX_FIRST_SEED;

  function update() {
    $("models-seed").value = seed;
    app.save();
    show();
  }
  $("models-seed").addEventListener("change", ({ target }) => {
    seed = seedIn(target.value) ?? seed;
    update();
  });
  $("models-new").addEventListener("click", () => {
    seed = randomSeed();
    update();
  });

  return {
    open(link) {
      seed = link.take("seed", seedIn) ?? seed;
      update();
    },
    close: () => show.stop(),
    params: () => ({ seed: String(seed) }),
  };
}
