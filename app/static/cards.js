// A card for each model: what it is good for, and samples of the same seeds.

import { request, root } from "./api.js";
import { $, dataSet, el, randomSeed } from "./dom.js";
import { latest } from "./latest.js";
import { encoder, inkOf, models } from "./models.js";
import { MAX_SEED, parseSeeds } from "./seeds.js";

const COUNT = 16; // samples of each model
const MAX_FIRST_SEED = MAX_SEED - COUNT + 1;

const KINDS = {
  gan: ["GAN", "Sharp pictures, but nobody can choose of what: good for more of the same."],
  cgan: ["Conditional GAN", "Sharp pictures of the label that you ask for: good for most things."],
  vae: ["VAE", "A variational autoencoder. Softer pictures, but it can read yours too: good for drawing, morphing and comparing."],
  graph: ["Imported generator", "Trained elsewhere. What it draws is what its card says."],
};

// " Learned from 58,800 images of MNIST, each seen 150 times."
function learned({ data: { training_images: images, name }, training: { images_seen: seen } }) {
  const times = seen ? `, each seen ${Math.round(seen / images).toLocaleString("en")} times` : "";
  if (!images) return [];
  return [` Learned from ${images.toLocaleString("en")} images`, ...(name ? [" of ", dataSet(name)] : []), `${times}.`];
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
    const whole = el("a", { class: "button", href: `${root}/models/${model.name}` }, "For programmers: its card");
    return el(
      "article",
      { class: "card", "aria-label": model.name },
      el("h3", {}, kind),
      el("p", { class: "hint" }, model.name),
      link,
      el("p", {}, about, ...learned(model)),
      el("p", { class: "controls" }, board, whole),
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
    if (!target.reportValidity()) return;
    seed = target.valueAsNumber;
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
