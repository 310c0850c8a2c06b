// A line of characters in one style: one seed under the labels of the text.

import { Problem } from "./api.js";
import { $, blobOf, el, imageOf, randomSeed, setDownload, slider } from "./dom.js";
import { latest } from "./latest.js";
import { fillModels, inkOf, modelOf, models, samples } from "./models.js";
import { withMark } from "./png.js";
import { parseSeeds, seedsFrom } from "./seeds.js";
import { TYPICAL, truncationIn } from "./state.js";

const STYLES = 8; // to choose from
const MAX_LETTERS = 16;
const SCALE = 8; // canvas pixels for one pixel of the model

// Models with labels of one character each.
export const writable = () => models.filter((m) => m.labels.some((label) => [...label].length === 1));

export function write(app) {
  const offered = writable();
  if (!offered.length) {
    $("write-empty").hidden = false;
    $("write-empty").textContent = "No served model has single characters as labels.";
    for (const part of $("view-write").querySelectorAll(".lead, h3, .controls, .paper, .hands")) part.hidden = true;
    return { open() {}, params: () => ({}) };
  }

  let model = offered[0];
  let text = "2026";
  let seed = 4; // of the line
  let first = 1; // first seed of the styles to choose from
  let truncation = TYPICAL;

  const known = (letter) => letter === " " || model.labels.includes(letter);
  const letters = () => [...[...text].filter(known).join("").trim()];

  // The images side by side; a space has the width of one.
  async function strip(line, sampleOf) {
    const [, height, width] = model.image_shape;
    const canvas = el("canvas", { width: line.length * width * SCALE, height: height * SCALE });
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    for (const [place, letter] of line.entries()) {
      if (letter === " ") continue;
      const image = await imageOf(sampleOf(letter).src);
      pen.drawImage(image, place * width * SCALE, 0, width * SCALE, height * SCALE);
    }
    const png = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    return withMark(png, blobOf(sampleOf(line.find((letter) => letter !== " ")).src));
  }

  const show = latest(async (signal) => {
    const line = letters();
    const unknown = [...new Set([...text].filter((letter) => !known(letter)))];
    $("write-hint").textContent = unknown.length
      ? `${model.name} has no ${unknown.map((letter) => `“${letter}”`).join(", ")}; its labels are ${model.labels.join(" ")}.`
      : "";
    const empty = !line.some((letter) => letter !== " ");
    $("write-empty").hidden = !empty;
    $("write-empty").textContent = `Type some of ${model.labels.join(" ")}.`;
    $("write-figure").hidden = $("write-save").hidden = $("write-hands").hidden = empty;
    if (empty) return;

    $("view-write").classList.toggle("photos", inkOf(model) === "photo");
    const seeds = seedsFrom(first, STYLES);
    if (!seeds.includes(seed)) seeds.unshift(seed);
    const byLabel = new Map(); // label -> seed -> sample
    const needed = [...new Set(line)].filter((letter) => letter !== " ");
    await Promise.all(
      needed.map(async (label, index) => {
        const options = { signal, shown: index === 0 };
        const generated = await samples(model, label, seeds, truncation, options);
        byLabel.set(label, new Map(generated.map((sample) => [sample.seed, sample])));
      }),
    );
    const blob = await strip(line, (letter) => byLabel.get(letter).get(seed));
    if (signal.aborted) return;
    setDownload($("write-save"), blob, `${line.join("")}-seed-${seed}.png`);
    $("write-strip").src = $("write-save").href;
    $("write-strip").alt = `${line.join("")} with seed ${seed}`;
    $("write-strip").hidden = false;
    const hadFocus = $("write-hands").contains(document.activeElement);
    $("write-hands").replaceChildren(...seeds.map((style) => styleButton(line, style, byLabel)));
    if (hadFocus) $("write-hands").querySelector("[aria-pressed=true]").focus();
  });

  function styleButton(line, style, byLabel) {
    const images = line.map((letter) =>
      letter === " "
        ? el("span", { class: "digit" })
        : el("img", { class: "digit ink", alt: "", src: byLabel.get(letter).get(style).src }),
    );
    const name = { "aria-label": `Seed ${style}`, "aria-pressed": String(style === seed) };
    const button = el("button", { type: "button", class: "hand", ...name }, ...images);
    button.addEventListener("click", () => {
      seed = style;
      update();
    });
    return button;
  }

  function update() {
    app.save();
    show();
  }

  const truncationSlider = slider("write-truncation", (value) => {
    truncation = value;
    update();
  });
  $("write-text").addEventListener("input", ({ target }) => {
    text = target.value;
    update();
  });
  $("write-model").addEventListener("change", ({ target }) => {
    model = modelOf(target.value);
    update();
  });
  $("write-new").addEventListener("click", () => {
    seed = first = randomSeed();
    update();
  });

  return {
    open(link) {
      const linked = modelOf(link.take("model"), offered[0]);
      if (!offered.includes(linked)) {
        const names = offered.map((one) => one.name).join(", ");
        throw new Problem(422, "Not possible", `${linked.name} has no labels of one character; models that have: ${names}.`);
      }
      model = linked;
      // The page's own links leave an empty text out.
      text = link.take("text") ?? (link.has("hands") ? "" : text);
      text = [...text].slice(0, MAX_LETTERS).join("");
      [seed] = link.take("seed", (text) => parseSeeds(text, 1)) ?? [seed];
      [first] = link.take("hands", (text) => parseSeeds(text, 1)) ?? [first];
      truncationSlider.value = truncation = link.take("truncation", truncationIn) ?? TYPICAL;
      fillModels($("write-model"), offered, model);
      $("write-text").value = text;
      update();
    },
    close: () => show.stop(),
    params: () => ({
      model: model.pin,
      text,
      seed: String(seed),
      hands: String(first),
      truncation: truncation === TYPICAL ? undefined : String(truncation),
    }),
  };
}
