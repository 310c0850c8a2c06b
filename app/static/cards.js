// What each model is, in words and figures, and all of them on the same seeds.

import { ask } from "./api.js";
import { $, el, randomSeed } from "./dom.js";
import { latest } from "./latest.js";
import { encoder, models } from "./models.js";
import { MAX_SEED, parseSeeds } from "./seeds.js";

const SHOWN = 16; // samples of each model
const LAST = MAX_SEED - SHOWN + 1; // the last first seed

const ABOUT = {
  gan: {
    name: "GAN",
    text:
      "Two networks learnt against each other: the generator turns random numbers into pictures, the " +
      "discriminator tells them from real ones, and each improves by the other's mistakes. It draws " +
      "sharply, but what comes out is its own choice, and it cannot say where a given picture lies.",
  },
  cgan: {
    name: "Conditional GAN",
    text:
      "A GAN whose two networks are also told the label. Asked for a 7 it has to draw a 7 that passes " +
      "for real, so the random numbers are left to decide everything else: slant, stroke, size. That " +
      "is why a row of the board is one hand.",
  },
  vae: {
    name: "Variational autoencoder",
    text:
      "An encoder puts each picture somewhere in a space of a few numbers, with a spread; a decoder makes " +
      "the picture again from a draw of it. Trained to lose little and to keep the places close to a " +
      "normal distribution, it knows pictures between pictures. Where it is unsure it shows the average, " +
      "so it is softer than a GAN.",
  },
};

// [card's figure, name, what it means]; those that the card has are shown.
const FIGURES = [
  ["frechet_test_ratio", "Distance to real pictures", "Fréchet distance to test images, times what real ones score; 1 is the best"],
  ["precision", "Plausible", "share of samples among real images (precision)"],
  ["recall", "Variety", "share of real images among samples (recall)"],
  ["conditional_accuracy", "Label as asked", "share of samples that a classifier takes for the label asked for"],
  ["memorised", "Copied", "share of samples suspiciously near one training image"],
  ["reconstruction_mse", "Reconstruction error", "mean squared error of test images, pixels 0 to 1"],
  ["nll_binarised_nats", "Likelihood", "negative log-likelihood of binarised test images, nats; less is better"],
];

const SAMPLES_OF_VAE = "Test images, each over its reconstruction; then samples, none chosen";
const PICTURES = {
  samples: "Samples, none chosen",
  morph: "From one sample to another",
  nearest: "The samples that come closest to training images; below each, the nearest training images",
  map: "Test images by their place in the latent space, brought to two dimensions",
  curves: "Losses and measures during training",
};

function facts(model) {
  const list = el("dl", { class: "facts" });
  const add = (name, value, about) =>
    list.append(
      el("div", {}, el("dt", {}, name, about ? el("small", {}, about) : ""), el("dd", {}, `${value}`)),
    );
  for (const [figure, name, about] of FIGURES) {
    if (model.metrics[figure] !== undefined) add(name, model.metrics[figure], about);
  }
  add("Latent numbers", model.latent_dim);
  const { images_seen: seen, seconds } = model.training;
  if (seen) add("Trained on", `${seen.toLocaleString("en")} pictures in ${Math.round(seconds / 60)} min`);
  return list;
}

// The service lists pictures of training data only where a licence is told; it stands beside them.
function figureOf(model, kind, data) {
  const ofVae = kind === "samples" && model.kind === "vae";
  const told = (ofVae ? SAMPLES_OF_VAE : PICTURES[kind]) ?? kind;
  const showsData = ofVae || kind === "nearest";
  const credit = showsData ? ` (${model.data.name}: ${model.data.licence})` : "";
  const image = el("img", { src: URL.createObjectURL(data), alt: told });
  return el("figure", {}, image, el("figcaption", {}, `${told}${credit}`));
}

function pictures(model) {
  const listed = Object.entries(model.pictures);
  if (!listed.length) return [];
  const folded = el("details", { class: "card-pictures" }, el("summary", {}, "Pictures of its card"));
  // Asked for when they are wanted, and by the page, since an <img> cannot show a key.
  const load = latest(async (signal) => {
    if (!folded.open || folded.querySelector("img")) return;
    const options = { as: "blob", signal, shown: false };
    const found = await Promise.all(
      listed.map(async ([kind, address]) => figureOf(model, kind, (await ask(address, options)).data)),
    );
    folded.append(...found);
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
      for (const img of images) img.classList.remove("loading"); // nothing is on its way then
    }
  });

  async function fill(model, options) {
    const query = { model: model.pin, seed: String(seed), n: String(SHOWN), scale: "3" };
    const { data, address } = await ask("/generate", { query, as: "blob", ...options });
    const { img, link } = sheets.get(model.pin);
    if (img.src) URL.revokeObjectURL(img.src);
    img.src = URL.createObjectURL(data);
    img.classList.remove("loading");
    img.alt = `${SHOWN} samples of ${model.name}, seeds ${seed} to ${seed + SHOWN - 1}`;
    link.href = address;
  }

  function cardOf(model) {
    const about = ABOUT[model.kind];
    const img = el("img", { class: "sheet loading", alt: "", width: 336, height: 336 });
    const link = el("a", {}, img);
    sheets.set(model.pin, { img, link });
    const board = el("button", { type: "button" }, "On the board");
    board.addEventListener("click", () => app.go("board", { model: model.pin }));
    const whole = el("a", { class: "button", href: `/models/${model.name}` }, "Whole card");
    return el(
      "article",
      { class: "card", "aria-label": model.name },
      el("h3", {}, about?.name ?? model.kind),
      el("p", { class: "hint" }, model.name),
      link,
      el("p", {}, about?.text ?? ""),
      facts(model),
      el("p", { class: "controls" }, board, whole),
      ...pictures(model),
    );
  }

  const order = ["gan", "cgan", "vae"];
  const place = (model) => order.indexOf(model.kind) - (model === encoder()) / 2;
  const sorted = [...models].sort((a, b) => place(a) - place(b));
  $("model-cards").append(...sorted.map(cardOf));

  const seedIn = (text) => {
    const [found] = parseSeeds(text, 1) ?? [null];
    return found === null ? null : Math.min(found, LAST);
  };
  $("models-seed").max = LAST;

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
