// Verify that an image is what its recipe reproduces; restore its settings.

import { Problem, request } from "./api.js";
import { $, el } from "./dom.js";
import { latest } from "./latest.js";
import { models } from "./models.js";
import { parseSeeds, writeSeeds } from "./seeds.js";

const VERDICTS = {
  same: "Verified: the recipe reproduces every pixel.",
  different: "Modified: the recipe gives other pixels.",
  unknown_model: "Unknown: the model of the recipe is not served here.",
};
const MAX_SEEDS = 600;

export function verify(app) {
  let address = ""; // of the dropped image
  let regenerated = ""; // of the one generated again

  const check = latest(async (signal, file) => {
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(file);
    const picture = el("figure", {}, el("img", { src: address, class: "pad", alt: "The dropped image" }));
    picture.append(el("figcaption", {}, file.name || "The image"));
    const result = el("div", { class: "verdict" }, el("p", {}, "Generating it again…"));
    $("verify-message").textContent = "Generating it again…";
    $("verify-result").replaceChildren(el("div", { class: "verified" }, picture, result));
    const files = [{ name: file.name || "picture.png", blob: file }];
    let data;
    try {
      ({ data } = await request("/verify", { files, raw: true, signal }));
    } catch (error) {
      const ofFile = error instanceof Problem && error.status >= 400 && error.status < 500;
      const title = ofFile ? error.title : "Not verified";
      result.className = "verdict unknown";
      result.replaceChildren(el("h3", {}, title), el("p", {}, ofFile ? error.message : ""));
      if (!ofFile) throw error;
      $("verify-message").textContent = `${title}: ${error.message}`; // not a failure of the page
      return;
    }
    result.className = `verdict ${data.verdict}`;
    result.replaceChildren(...summary(data));
    $("verify-message").textContent = VERDICTS[data.verdict];
    if (data.model) await regenerate(data, picture.parentElement, signal);
  });

  // Show the image that the recipe gives now beside the dropped one.
  async function regenerate({ recipe, model }, container, signal) {
    const served = models.find((one) => one.name === model);
    const query = {
      model: served.pin,
      label: recipe.label === null ? undefined : served.labels[recipe.label],
      seeds: recipe.seeds,
      truncation: String(recipe.truncation),
      layout: recipe.layout,
      scale: String(recipe.scale),
    };
    const { data } = await request("/generate", { query, as: "blob", signal, shown: false });
    URL.revokeObjectURL(regenerated);
    regenerated = URL.createObjectURL(data);
    const image = el("img", { src: regenerated, class: "pad", alt: "The recipe's image" });
    const figure = el("figure", {}, image, el("figcaption", {}, "Generated now from the recipe"));
    container.insertBefore(figure, container.lastElementChild);
  }

  function summary({ verdict, detail, recipe, model }) {
    const served = models.find((one) => one.name === model);
    const label = recipe.label === null ? null : (served?.labels[recipe.label] ?? recipe.label);
    const rows = [
      ["Model", recipe.model],
      ["Checkpoint", `${recipe.digest.slice(0, 12)}…`],
      ["Label", label ?? "none, or drawn from each seed"],
      ["Seeds", recipe.seeds],
      ["Truncation", recipe.truncation],
      ["Scale", recipe.scale],
    ];
    const list = el("dl", { class: "facts" });
    for (const [name, value] of rows) list.append(el("div", {}, el("dt", {}, name), el("dd", {}, `${value}`)));
    const parts = [el("h3", {}, VERDICTS[verdict]), list];
    if (verdict !== "same") parts.splice(1, 0, el("p", {}, `${detail}.`));
    if (served) {
      const restore = el("button", { type: "button" }, "Look at its settings");
      restore.addEventListener("click", () => app.go("look", settingsOf(recipe, served, label)));
      parts.push(el("p", {}, restore));
    }
    return parts;
  }

  // Pictures of the same seeds; a single one is enlarged.
  function settingsOf(recipe, served, label) {
    const seeds = parseSeeds(recipe.seeds, MAX_SEEDS) ?? [1];
    const one = seeds.length === 1;
    return {
      model: served.pin,
      seeds: writeSeeds(seeds),
      truncation: String(recipe.truncation),
      label: label ?? undefined,
      pick: one && (label !== null || !served.labels.length) ? String(seeds[0]) : undefined,
    };
  }

  $("verify-file").addEventListener("change", ({ target }) => {
    if (target.files.length) check(target.files[0]);
    target.value = "";
  });

  return { open() {}, close: () => check.stop(), params: () => ({}), dropped: (file) => check(file) };
}
