// A picture of ours: is it still what its recipe makes? And back to its settings.

import { Problem, ask } from "./api.js";
import { $, el } from "./dom.js";
import { latest } from "./latest.js";
import { models } from "./models.js";
import { parseSeeds, writeSeeds } from "./seeds.js";

const SAID = {
  same: "Yes: every pixel is what the recipe makes.",
  different: "Not any more: the pixels are not what the recipe makes.",
  unknown_model: "It cannot be told: the model of the recipe is not served here.",
};
const MOST_SEEDS = 600;

export function verify(app) {
  let address = ""; // of the dropped picture
  let remade = ""; // of the one made again

  const check = latest(async (signal, file) => {
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(file);
    const picture = el("figure", {}, el("img", { src: address, class: "pad", alt: "The dropped picture" }));
    picture.append(el("figcaption", {}, file.name || "The picture"));
    const result = el("div", { class: "verdict" }, el("p", {}, "Making it again…"));
    $("verify-said").textContent = "Making it again…";
    $("verify-result").replaceChildren(el("div", { class: "verified" }, picture, result));
    const files = [{ name: file.name || "picture.png", blob: file }];
    let data;
    try {
      ({ data } = await ask("/verify", { files, raw: true, signal }));
    } catch (error) {
      const ofFile = error instanceof Problem && error.status >= 400 && error.status < 500;
      const title = ofFile ? error.title : "Not compared";
      result.className = "verdict unknown";
      result.replaceChildren(el("h3", {}, title), el("p", {}, ofFile ? error.message : ""));
      if (!ofFile) throw error;
      $("verify-said").textContent = `${title}: ${error.message}`; // that is the answer
      return;
    }
    result.className = `verdict ${data.verdict}`;
    result.replaceChildren(...told(data));
    $("verify-said").textContent = SAID[data.verdict];
    if (data.model) await again(data, picture.parentElement, signal);
  });

  // The recipe's picture, made anew, beside the dropped one.
  async function again({ recipe, model }, beside, signal) {
    const served = models.find((one) => one.name === model);
    const query = {
      model: served.pin,
      label: recipe.label === null ? undefined : served.labels[recipe.label],
      seeds: recipe.seeds,
      truncation: String(recipe.truncation),
      layout: recipe.layout,
      scale: String(recipe.scale),
    };
    const { data } = await ask("/generate", { query, as: "blob", signal, shown: false });
    URL.revokeObjectURL(remade);
    remade = URL.createObjectURL(data);
    const image = el("img", { src: remade, class: "pad", alt: "The same recipe, made now" });
    const figure = el("figure", {}, image, el("figcaption", {}, "Made now of its recipe"));
    beside.insertBefore(figure, beside.lastElementChild);
  }

  function told({ verdict, detail, recipe, model }) {
    const served = models.find((one) => one.name === model);
    const label = recipe.label === null ? null : (served?.labels[recipe.label] ?? recipe.label);
    const rows = [
      ["Model", recipe.model],
      ["Checkpoint", `${recipe.digest.slice(0, 12)}…`],
      ["Label", label ?? "drawn from each seed, or none"],
      ["Seeds", recipe.seeds],
      ["Truncation", recipe.truncation],
      ["Scale", recipe.scale],
    ];
    const list = el("dl", { class: "facts" });
    for (const [name, value] of rows) list.append(el("div", {}, el("dt", {}, name), el("dd", {}, `${value}`)));
    const parts = [el("h3", {}, SAID[verdict]), list];
    if (verdict !== "same") parts.splice(1, 0, el("p", {}, `${detail}.`));
    if (served) {
      const restore = el("button", { type: "button" }, "Restore its settings");
      restore.addEventListener("click", () => app.go("board", settingsOf(recipe, served, label)));
      parts.push(el("p", {}, restore));
    }
    return parts;
  }

  // The board with the picture's rows; one picture is enlarged.
  function settingsOf(recipe, served, label) {
    const seeds = parseSeeds(recipe.seeds, MOST_SEEDS) ?? [1];
    const one = seeds.length === 1;
    return {
      model: served.pin,
      seeds: writeSeeds(seeds),
      truncation: recipe.truncation === 1 ? undefined : String(recipe.truncation),
      label: one && label !== null ? label : undefined,
      pick: one && (label !== null || !served.labels.length) ? String(seeds[0]) : undefined,
    };
  }

  $("verify-file").addEventListener("change", ({ target }) => {
    if (target.files.length) check(target.files[0]);
    target.value = "";
  });

  return { open() {}, close: () => check.stop(), params: () => ({}), dropped: (file) => check(file) };
}
