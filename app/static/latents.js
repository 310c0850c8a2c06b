// A slider for each latent, in the order of what it carries, and under it the encoder's mean and
// spread; those that carry little are folded away, dead ones grey among them.

import { $, el } from "./dom.js";

export const DEAD_NATS = 0.01; // a latent with less KL divergence says nothing of the picture
const REACH = 4; // standard deviations of the prior, each way
const SHOWN = 16; // sliders that are not folded away

// KL divergence from N(0, 1) in each latent, nats: from the card, else over the encoded digits.
export function klOf(model, points) {
  const told = model.metrics.kl_per_dimension_nats;
  if (told?.length === model.latent_dim) return told;
  if (!points.length) return null;
  const kl = new Array(model.latent_dim).fill(0);
  for (const { mu, logvar } of points) {
    mu.forEach((mean, i) => {
      kl[i] += (mean ** 2 + Math.exp(logvar[i]) - 1 - logvar[i]) / 2 / points.length;
    });
  }
  return kl;
}

const deviation = (posterior, index) => Math.exp(posterior.logvar[index] / 2);

// moved(index, value): a slider was moved.
export function latents(moved) {
  const box = $("latents");
  let rows = new Map(); // index -> {input, output, spread, told, value}
  let posterior = null;

  function row(index, nats) {
    const id = `latent-${index}`;
    const dead = nats !== null && nats < DEAD_NATS;
    const input = el("input", { type: "range", id, min: -REACH, max: REACH, step: 0.05 });
    // Not said with every move of the point: 64 of them speak at once. The slider tells it.
    const output = el("output", { "for": id, "aria-live": "off" });
    const spread = el(
      "span",
      { class: "placed", hidden: true },
      el("span", { class: "band" }),
      el("span", { class: "middle" }),
    );
    const told = el("span", { class: "told" });
    input.addEventListener("input", () => {
      const value = Number(input.value);
      say(index, value);
      moved(index, value);
    });
    rows.set(index, { input, output, spread, told, value: 0 });
    return el(
      "div",
      { class: dead ? "latent dead" : "latent" },
      el("label", { htmlFor: id }, `z${index} `, el("span", { class: "nats" }, nats === null ? "" : `${nats.toFixed(2)} nats`)),
      el("span", { class: "track" }, input),
      output,
      el("span", { class: "posterior", "aria-hidden": "true" }, spread),
      told,
    );
  }

  // The value in figures, and to a screen reader also where the encoder puts it.
  function say(index, value) {
    const { input, output } = rows.get(index);
    rows.get(index).value = value;
    output.textContent = value.toFixed(2);
    const text = posterior
      ? `${value.toFixed(2)}; mean ${posterior.mu[index].toFixed(2)}, spread ${deviation(posterior, index).toFixed(2)}`
      : value.toFixed(2);
    input.setAttribute("aria-valuetext", text);
  }

  return {
    // order: the latents' indices; kl: by index, or null.
    build(order, kl) {
      const focused = box.contains(document.activeElement) ? document.activeElement.id : "";
      const unfolded = box.querySelector("details")?.open ?? false;
      rows = new Map();
      const made = order.map((index) => row(index, kl ? kl[index] : null));
      const dead = made.filter((element) => element.classList.contains("dead")).length;
      const alive = Math.min(SHOWN, made.length - dead); // dead ones come last
      const folded = made.slice(alive);
      const parts = made.slice(0, alive);
      if (folded.length) {
        const which = dead ? `, ${dead} of them dead: less than ${DEAD_NATS} nats` : "";
        const summary = el("summary", { id: "latents-more" }, `${folded.length} more${which}`);
        parts.push(el("details", { class: "folded", open: unfolded }, summary, ...folded));
      }
      box.replaceChildren(...parts);
      if (focused) $(focused)?.focus({ preventScroll: true });
    },
    set(z) {
      for (const [index, { input }] of rows) {
        input.value = z[index];
        say(index, z[index]);
      }
    },
    // The encoder's mean, with a bar from one standard deviation under it to one above; null = none.
    around(given) {
      posterior = given;
      for (const [index, { spread, told, value }] of rows) {
        spread.hidden = !posterior;
        told.textContent = "";
        if (posterior) {
          const [mean, reach] = [posterior.mu[index], deviation(posterior, index)];
          const share = (value) => Math.max(0, Math.min(1, (value + REACH) / (2 * REACH)));
          spread.style.setProperty("--mean", share(mean));
          spread.style.setProperty("--from", share(mean - reach));
          spread.style.setProperty("--size", share(mean + reach) - share(mean - reach));
          told.textContent = `${mean.toFixed(2)} ± ${reach.toFixed(2)}`;
        }
        say(index, value);
      }
    },
  };
}
