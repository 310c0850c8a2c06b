// One digit, large: lock its style and change the label, save it, take it elsewhere.

import { $, el, randomSeed, slider } from "./dom.js";
import { latest } from "./latest.js";
import { encoder, nameOf, samples } from "./models.js";
import { placeNotice } from "./notice.js";
import { MAX_SEED } from "./seeds.js";

const SCALE = 10; // of the saved picture

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
      if (!signal.aborted) empty(); // better than another digit under this one's name
      throw error;
    } finally {
      image.classList.remove("loading");
    }
    if (signal.aborted || !state) return;
    image.src = sample.src;
    const what = sample.label === null ? "A sample" : `A ${sample.label}`;
    $("detail-image").alt = `${what} in style ${seed} from ${model.name}`;
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
    $("detail-title").textContent = label === null ? `Seed ${seed}` : `${label} in style ${seed}`;
    $("detail-labels").hidden = !model.labels.length;
    for (const button of $("detail-labels").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.textContent === label));
    }
    usable("detail-before", seed > 0, "detail-after");
    usable("detail-after", seed < MAX_SEED, "detail-before");
    changed();
    show();
  }

  // A button that is disabled loses the focus: its neighbour takes it.
  function usable(id, can, neighbour) {
    const focused = document.activeElement === $(id);
    $(id).disabled = !can;
    if (focused && !can) $(neighbour).focus();
  }

  const change = (part) => {
    Object.assign(state, part);
    update();
  };
  const cut = slider("detail-truncation", (truncation) => change({ truncation }));
  $("detail-before").addEventListener("click", () => change({ seed: state.seed - 1 }));
  $("detail-after").addEventListener("click", () => change({ seed: state.seed + 1 }));
  $("detail-random").addEventListener("click", () => change({ seed: randomSeed() }));
  $("detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
  dialog.addEventListener("close", () => {
    if (!state) return;
    state = null;
    show.stop();
    changed();
  });

  // The board closes this when it is left.
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
      if (!dialog.open) empty(); // what was enlarged before
      $("detail-encode").hidden = !encoder();
      $("detail-labels").replaceChildren(
        el("legend", {}, "Label, in the same style"),
        ...model.labels.map((label) => {
          const button = el("button", { type: "button" }, label);
          button.addEventListener("click", () => change({ label }));
          return button;
        }),
      );
      cut.value = state.truncation;
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
