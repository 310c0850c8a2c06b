// A slider for each latent, most informative first, with the encoder's mean and standard deviation
// below. Little informative ones are folded away; dead ones are grey.

import { $, el } from "./dom.js";

const DEAD_NATS = 0.01; // a latent with less KL divergence carries no information
export const RANGE = 4; // standard deviations of the prior, either side of 0
export const UNFOLDED = 6; // sliders

// The posterior of an encoding. Some autoencoders encode to a point, without a variance.
export const posteriorOf = ({ mu, logvar }) => ({ mu, logvar: logvar ?? mu.map(() => -Infinity) });

// KL divergence from N(0, 1) of each latent, in nats: from the card, else over the encoded images.
export function klOf(model, points) {
  const onCard = model.metrics.kl_per_dimension_nats;
  if (onCard?.length === model.latent_dim) return onCard;
  if (!points.length) return null;
  const kl = new Array(model.latent_dim).fill(0);
  for (const { mu, logvar } of points) {
    mu.forEach((mean, i) => {
      const spread = logvar[i] === -Infinity ? 0 : Math.exp(logvar[i]) - 1 - logvar[i];
      kl[i] += (mean ** 2 + spread) / 2 / points.length;
    });
  }
  return kl;
}

const deviation = (posterior, index) => Math.exp(posterior.logvar[index] / 2);

// onMove(index, value): the user moved a slider.
export function latents(onMove) {
  const box = $("latents");
  let rows = new Map(); // index -> {input, output, spread, posteriorText, value}
  let posterior = null;

  function row(index, nats) {
    const id = `latent-${index}`;
    const dead = nats !== null && nats < DEAD_NATS;
    const input = el("input", { type: "range", id, min: -RANGE, max: RANGE, step: 0.05 });
    // Not live: with every move of the point all would be announced at once. The slider has the value.
    const output = el("output", { "for": id, "aria-live": "off" });
    const spread = el(
      "span",
      { class: "placed", hidden: true },
      el("span", { class: "band" }),
      el("span", { class: "middle" }),
    );
    const posteriorText = el("span", { class: "posterior-text" });
    const ends = [0, 1].map(() => el("img", { class: "digit ink", alt: "" }));
    input.addEventListener("input", () => {
      const value = Number(input.value);
      showValue(index, value);
      onMove(index, value);
    });
    rows.set(index, { input, output, spread, posteriorText, ends, value: 0 });
    return el(
      "div",
      { class: dead ? "latent dead" : "latent" },
      ends[0],
      el("span", { class: "track" }, input, el("span", { class: "posterior", "aria-hidden": "true" }, spread)),
      ends[1],
      el(
        "span",
        { class: "about" },
        el("label", { htmlFor: id }, `z${index} `, el("span", { class: "nats" }, nats === null ? "" : `${nats.toFixed(2)} nats`)),
        output,
        posteriorText,
      ),
    );
  }

  // The value as text; for a screen reader with the encoder's mean and standard deviation.
  function showValue(index, value) {
    const { input, output } = rows.get(index);
    rows.get(index).value = value;
    output.textContent = value.toFixed(2);
    const text = posterior
      ? `${value.toFixed(2)}; mean ${posterior.mu[index].toFixed(2)}, standard deviation ${deviation(posterior, index).toFixed(2)}`
      : value.toFixed(2);
    input.setAttribute("aria-valuetext", text);
  }

  return {
    // order: the latents' indices; kl: by index, or null.
    build(order, kl) {
      const focused = box.contains(document.activeElement) ? document.activeElement.id : "";
      const unfolded = box.querySelector("details")?.open ?? false;
      rows = new Map();
      const sliders = order.map((index) => row(index, kl ? kl[index] : null));
      const dead = sliders.filter((element) => element.classList.contains("dead")).length;
      const alive = Math.min(UNFOLDED, sliders.length - dead); // dead ones come last
      const folded = sliders.slice(alive);
      const parts = sliders.slice(0, alive);
      if (folded.length) {
        const deadText = dead ? `, ${dead} of them dead: less than ${DEAD_NATS} nats` : "";
        const summary = el("summary", { id: "latents-more" }, `${folded.length} more${deadText}`);
        parts.push(el("details", { class: "folded", open: unfolded }, summary, ...folded));
      }
      box.replaceChildren(...parts);
      if (focused) $(focused)?.focus({ preventScroll: true });
    },
    set(z) {
      for (const [index, { input }] of rows) {
        input.value = z[index];
        showValue(index, z[index]);
      }
    },
    // What is decoded with the latent at the slider's ends.
    setEnds(index, low, high) {
      const { ends } = rows.get(index) ?? { ends: [] };
      ends.forEach((image, i) => (image.src = i ? high : low));
    },
    // Show the encoder's mean, with a bar of one standard deviation either side; null = hide it.
    setPosterior(given) {
      posterior = given;
      for (const [index, { spread, posteriorText, value }] of rows) {
        spread.hidden = !posterior;
        posteriorText.textContent = "";
        if (posterior) {
          const [mean, sigma] = [posterior.mu[index], deviation(posterior, index)];
          const share = (value) => Math.max(0, Math.min(1, (value + RANGE) / (2 * RANGE)));
          spread.style.setProperty("--mean", share(mean));
          spread.style.setProperty("--from", share(mean - sigma));
          spread.style.setProperty("--size", share(mean + sigma) - share(mean - sigma));
          posteriorText.textContent = `${mean.toFixed(2)} ± ${sigma.toFixed(2)}`;
        }
        showValue(index, value);
      }
    },
  };
}
