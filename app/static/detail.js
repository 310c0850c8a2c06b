// The dialog with one enlarged image: change its label or seed, save it, use it in other views.

import { $, choices, el, randomSeed, slider } from "./dom.js";
import { latest } from "./latest.js";
import { encoder, inkOf, nameOf, samples } from "./models.js";
import { placeNotice } from "./notice.js";
import { MAX_SEED } from "./seeds.js";

const SCALE = 10; // of the saved image

export function detail({ changed, go }) {
  const dialog = $("detail");
  let state = null; // {model, label, seed, truncation}; null = closed

  const show = latest(async (signal) => {
    const { model, label, seed, truncation } = state;
    const image = $("detail-image");
    image.classList.toggle("loading", !image.hasAttribute("src"));
    let sample;
    try {
      [sample] = await samples(model, label, [seed], truncation, { signal, fresh: true });
    } catch (error) {
      if (!signal.aborted) empty(); // the former image is not this one
      throw error;
    } finally {
      image.classList.remove("loading");
    }
    if (signal.aborted || !state) return;
    image.src = sample.src;
    const content = sample.label === null ? "A sample" : `A ${sample.label}`;
    $("detail-image").alt = `${content} with seed ${seed} from ${model.name}`;
    $("detail-link").href = sample.permalink;
    $("detail-save").href = `${sample.permalink}&scale=${SCALE}`;
    $("detail-save").download = `${model.name}-${sample.label ?? "sample"}-${seed}.png`;
  });

  function empty() {
    $("detail-image").removeAttribute("src");
    $("detail-image").alt = "";
    $("detail-link").removeAttribute("href");
    $("detail-save").removeAttribute("href");
  }

  function update() {
    const { model, label, seed } = state;
    $("detail-title").textContent = label === null ? `Seed ${seed}` : `${label}, seed ${seed}`;
    $("detail-labels").hidden = !model.labels.length;
    for (const button of $("detail-labels").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.textContent === label));
    }
    setEnabled("detail-before", seed > 0, "detail-after");
    setEnabled("detail-after", seed < MAX_SEED, "detail-before");
    changed();
    show();
  }

  // A disabled button loses the focus; its neighbour takes it.
  function setEnabled(id, can, neighbour) {
    const focused = document.activeElement === $(id);
    $(id).disabled = !can;
    if (focused && !can) $(neighbour).focus();
  }

  const change = (part) => {
    Object.assign(state, part);
    update();
  };
  const truncationSlider = slider("detail-truncation", (truncation) => change({ truncation }));
  $("detail-before").addEventListener("click", () => change({ seed: state.seed - 1 }));
  $("detail-after").addEventListener("click", () => change({ seed: state.seed + 1 }));
  $("detail-random").addEventListener("click", () => change({ seed: randomSeed() }));
  $("detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // a click on the backdrop
  });
  dialog.addEventListener("close", () => {
    if (!state) return;
    state = null;
    show.stop();
    changed();
  });

  // Leaving the board closes this dialog.
  $("detail-encode").addEventListener("click", () => go("draw", { from: nameOf(state) }));
  $("detail-start").addEventListener("click", () => go("morph", { a: nameOf(state) }));
  $("detail-end").addEventListener("click", () => go("morph", { b: nameOf(state) }));

  function close() {
    state = null;
    show.stop();
    dialog.close();
  }

  return {
    open(wanted) {
      state = { ...wanted };
      const { model } = state;
      if (!dialog.open) empty(); // of the image before
      $("detail-image").className = `pad ${inkOf(model)}`;
      $("detail-encode").hidden = !encoder(model);
      $("detail-labels").replaceChildren(
        el("legend", {}, "Label, with the same seed"),
        ...choices(model.labels, (label) => change({ label })),
      );
      truncationSlider.value = state.truncation;
      truncationSlider.disabled = !model.truncation;
      update();
      if (dialog.open) return;
      dialog.showModal();
      placeNotice();
      dialog.querySelector("[aria-pressed=true]")?.focus();
    },
    close,
    state: () => state,
  };
}
