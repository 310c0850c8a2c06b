// What each model is, in words and figures, and all of them on the same seeds.

import { ask } from "./api.js";
import { $, el, randomSeed } from "./dom.js";
import { latest } from "./latest.js";
import { encoder, models } from "./models.js";
import { parseSeeds } from "./seeds.js";

const SHOWN = 16; // samples of each model

const ABOUT = {
  gan: {
    name: "GAN",
    text:
      "Two networks learnt against each other: the generator turns random numbers into pictures, the " +
      "discriminator tells them from real ones, and each improves by the other's mistakes. It draws " +
      "sharply, but which digit comes out is its own choice, and it cannot say where a given picture lies.",
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
  ["frechet_test_ratio", "Distance to real digits", "Fréchet distance to test images, times what real ones score; 1 is the best"],
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
    list.append(el("div", about ? { title: about } : {}, el("dt", {}, name), el("dd", {}, `${value}`)));
  for (const [figure, name, about] of FIGURES) {
    if (model.metrics[figure] !== undefined) add(name, model.metrics[figure], about);
  }
  add("Latent numbers", model.latent_dim);
  const { images_seen: seen, seconds } = model.training;
  if (seen) add("Trained on", `${seen.toLocaleString("en")} pictures in ${Math.round(seconds / 60)} min`);
  return list;
}

// The service lists pictures of training data only where a licence is told; it stands beside them.
function pictures(model) {
  const listed = Object.entries(model.pictures);
  if (!listed.length) return [];
  const shown = listed.map(([kind, address]) => {
    const ofVae = kind === "samples" && model.kind === "vae";
    const told = (ofVae ? SAMPLES_OF_VAE : PICTURES[kind]) ?? kind;
    const showsData = ofVae || kind === "nearest";
    const credit = showsData ? ` (${model.data.name}: ${model.data.licence})` : "";
    const image = el("img", { src: address, alt: told, loading: "lazy" });
    return el("figure", {}, image, el("figcaption", {}, `${told}${credit}`));
  });
  const folded = el("details", { class: "card-pictures" }, el("summary", {}, "Pictures of its card"));
  folded.append(...shown);
  return [folded];
}

export function cards(app) {
  let seed = 1;
  const sheets = new Map(); // pinned name -> {img, link}

  const show = latest(async (signal) => {
    await Promise.all(
      models.map(async (model, index) => {
        const query = { model: model.pin, seed: String(seed), n: String(SHOWN), scale: "3" };
        const options = { query, as: "blob", signal, shown: index === 0 };
        const { data, address } = await ask("/generate", options);
        const { img, link } = sheets.get(model.pin);
        if (img.src) URL.revokeObjectURL(img.src);
        img.src = URL.createObjectURL(data);
        img.classList.remove("loading");
        img.alt = `${SHOWN} samples of ${model.name}, seeds ${seed} to ${seed + SHOWN - 1}`;
        link.href = address;
      }),
    );
  });

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

  function update() {
    $("models-seed").value = seed;
    app.save();
    show();
  }
  $("models-seed").addEventListener("change", ({ target }) => {
    [seed] = parseSeeds(target.value, 1) ?? [seed];
    update();
  });
  $("models-new").addEventListener("click", () => {
    seed = randomSeed();
    update();
  });

  return {
    open(params) {
      [seed] = parseSeeds(params.get("seed") ?? "", 1) ?? [seed];
      update();
    },
    close: () => show.stop(),
    params: () => ({ seed: String(seed) }),
  };
}
