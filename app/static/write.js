// A line of figures in one hand: one seed under the labels of the text.

import { Problem } from "./api.js";
import { $, blobOf, el, pictureOf, randomSeed, saves, slider } from "./dom.js";
import { latest } from "./latest.js";
import { fillModels, modelOf, models, samples } from "./models.js";
import { withMark } from "./png.js";
import { parseSeeds, seedsFrom } from "./seeds.js";
import { truncationIn } from "./state.js";

const HANDS = 6;
const MOST_LETTERS = 16;
const SCALE = 8; // of the strip, so that one pixel of the model is a square

// Labels that are one character each can be written with.
const writable = () => models.filter((m) => m.labels.some((label) => [...label].length === 1));

export function write(app) {
  const offered = writable();
  if (!offered.length) {
    $("write-empty").hidden = false;
    $("write-empty").textContent = "No served model has single characters as its labels.";
    for (const part of $("view-write").querySelectorAll(".controls, .paper, .hands")) part.hidden = true;
    return { open() {}, params: () => ({}) };
  }

  let model = offered[0];
  let text = "2026";
  let seed = 4; // of the hand that is written large
  let first = 1; // of the hands to choose from
  let truncation = 1;

  const letters = () => [...text].filter((letter) => letter === " " || model.labels.includes(letter));

  // Pictures side by side; a space is as wide as a figure.
  async function strip(line, of) {
    const [, height, width] = model.image_shape;
    const canvas = el("canvas", { width: line.length * width * SCALE, height: height * SCALE });
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    for (const [place, letter] of line.entries()) {
      if (letter === " ") continue;
      const picture = await pictureOf(of(letter).src);
      pen.drawImage(picture, place * width * SCALE, 0, width * SCALE, height * SCALE);
    }
    const made = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    return withMark(made, blobOf(of(line.find((letter) => letter !== " ")).src));
  }

  const show = latest(async (signal) => {
    const line = letters();
    const left = [...new Set([...text].filter((letter) => !line.includes(letter)))];
    $("write-hint").textContent = left.length
      ? `${model.name} has no ${left.map((letter) => `“${letter}”`).join(", ")}; it knows ${model.labels.join(" ")}.`
      : "";
    const nothing = !line.some((letter) => letter !== " ");
    $("write-empty").hidden = !nothing;
    $("write-empty").textContent = `Type something made of ${model.labels.join(" ")}.`;
    $("write-figure").hidden = $("write-save").hidden = $("write-hands").hidden = nothing;
    if (nothing) return;

    const seeds = seedsFrom(first, HANDS);
    if (!seeds.includes(seed)) seeds.unshift(seed);
    const found = new Map(); // label -> seed -> sample
    const needed = [...new Set(line)].filter((letter) => letter !== " ");
    await Promise.all(
      needed.map(async (label, index) => {
        const options = { signal, shown: index === 0 };
        const made = await samples(model, label, seeds, truncation, options);
        found.set(label, new Map(made.map((sample) => [sample.seed, sample])));
      }),
    );
    const blob = await strip(line, (letter) => found.get(letter).get(seed));
    if (signal.aborted) return;
    saves($("write-save"), blob, `${line.join("")}-style-${seed}.png`);
    $("write-strip").src = $("write-save").href;
    $("write-strip").alt = `${line.join("")} in style ${seed}`;
    $("write-strip").hidden = false;
    const held = $("write-hands").contains(document.activeElement);
    $("write-hands").replaceChildren(...seeds.map((hand) => handOf(line, hand, found)));
    if (held) $("write-hands").querySelector("[aria-pressed=true]").focus();
  });

  function handOf(line, hand, found) {
    const figures = line.map((letter) =>
      letter === " "
        ? el("span", { class: "digit" })
        : el("img", { class: "digit", alt: "", src: found.get(letter).get(hand).src }),
    );
    const name = { "aria-label": `Style ${hand}`, "aria-pressed": String(hand === seed) };
    const button = el("button", { type: "button", class: "hand", ...name }, ...figures);
    button.addEventListener("click", () => {
      seed = hand;
      update();
    });
    return button;
  }

  function update() {
    app.save();
    show();
  }

  const cut = slider("write-truncation", (value) => {
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
      const asked = modelOf(link.take("model"), offered[0]);
      if (!offered.includes(asked)) {
        const names = offered.map((one) => one.name).join(", ");
        throw new Problem(422, "No hand", `${asked.name} draws no single characters; those that do: ${names}.`);
      }
      model = asked;
      // An address of ours tells of an empty text by telling of none.
      text = link.take("text") ?? (link.has("hands") ? "" : text);
      text = [...text].slice(0, MOST_LETTERS).join("");
      [seed] = link.take("seed", (told) => parseSeeds(told, 1)) ?? [seed];
      [first] = link.take("hands", (told) => parseSeeds(told, 1)) ?? [first];
      cut.value = truncation = link.take("truncation", truncationIn) ?? 1;
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
      truncation: truncation === 1 ? undefined : String(truncation),
    }),
  };
}
