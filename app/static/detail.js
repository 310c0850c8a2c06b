// One digit, large: lock its style and change the label, save it, take it elsewhere.

import { $, el, randomSeed, slider } from "./dom.js";
import { latest } from "./latest.js";
import { nameOf, samples } from "./models.js";

const SCALE = 10; // of the saved picture

export function detail({ changed, go }) {
  const dialog = $("detail");
  let state = null; // {model, label, seed, truncation}; null = closed

  const show = latest(async (signal) => {
    const { model, label, seed, truncation } = state;
    const [sample] = await samples(model, label, [seed], truncation, { signal, fresh: true });
    if (signal.aborted || !state) return;
    $("detail-image").src = sample.src;
    $("detail-image").classList.remove("loading");
    const what = sample.label === null ? "A sample" : `A ${sample.label}`;
    $("detail-image").alt = `${what} in style ${seed} from ${model.name}`;
    $("detail-link").href = sample.permalink;
    $("detail-save").href = `${sample.permalink}&scale=${SCALE}`;
    $("detail-save").download = `${model.name}-${sample.label ?? "sample"}-${seed}.png`;
  });

  function update() {
    const { model, label, seed } = state;
    $("detail-title").textContent = label === null ? `Seed ${seed}` : `${label} in style ${seed}`;
    $("detail-labels").hidden = !model.labels.length;
    for (const button of $("detail-labels").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.textContent === label));
    }
    $("detail-before").disabled = seed === 0;
    changed();
    show();
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

  const leave = (view, params) => {
    close();
    go(view, params);
  };
  $("detail-encode").addEventListener("click", () => leave("draw", { from: nameOf(state) }));
  $("detail-start").addEventListener("click", () => leave("morph", { a: nameOf(state) }));
  $("detail-end").addEventListener("click", () => leave("morph", { b: nameOf(state) }));

  function close() {
    state = null;
    show.stop();
    dialog.close();
  }

  return {
    open(wanted) {
      state = { ...wanted };
      const { model } = state;
      $("detail-image").classList.add("loading");
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
      dialog.querySelector("[aria-pressed=true]")?.focus();
    },
    close,
    state: () => state,
  };
}
