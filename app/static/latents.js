// A slider for each latent, in the order of what it carries; dead ones are grey.

import { $, el } from "./dom.js";

export const DEAD_NATS = 0.01; // a latent with less KL divergence says nothing of the picture
const REACH = 4; // standard deviations of the prior, each way

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

// moved(index, value): a slider was moved.
export function latents(moved) {
  const box = $("latents");
  let rows = new Map(); // index -> {input, output, spread}

  function row(index, nats) {
    const id = `latent-${index}`;
    const dead = nats !== null && nats < DEAD_NATS;
    const input = el("input", { type: "range", id, min: -REACH, max: REACH, step: 0.05 });
    const output = el("output", { "for": id });
    const spread = el("span", { class: "spread", "aria-hidden": "true" });
    const told = nats === null ? "" : `${nats.toFixed(2)} nats`;
    input.addEventListener("input", () => {
      output.textContent = Number(input.value).toFixed(2);
      moved(index, Number(input.value));
    });
    rows.set(index, { input, output, spread });
    return el(
      "div",
      { class: dead ? "latent dead" : "latent" },
      el("label", { htmlFor: id }, `z${index}`, el("span", { class: "nats" }, told)),
      el("span", { class: "track" }, spread, input),
      output,
    );
  }

  return {
    // order: the latents' indices; kl: by index, or null.
    build(order, kl) {
      rows = new Map();
      const made = order.map((index) => row(index, kl ? kl[index] : null));
      const alive = made.filter((element) => !element.classList.contains("dead"));
      const dead = made.filter((element) => element.classList.contains("dead"));
      const more = el("details", { class: "dead-ones" }, el("summary", {}, ""), ...dead);
      more.firstChild.textContent = `${dead.length} dead: they carry less than ${DEAD_NATS} nats`;
      box.replaceChildren(...alive, ...(dead.length ? [more] : []));
    },
    set(z) {
      for (const [index, { input, output }] of rows) {
        input.value = z[index];
        output.textContent = z[index].toFixed(2);
      }
    },
    // The band from one standard deviation under the mean to one above.
    around(posterior) {
      for (const [index, { spread }] of rows) {
        spread.hidden = !posterior;
        if (!posterior) continue;
        const deviation = Math.exp(posterior.logvar[index] / 2);
        const share = (value) => Math.max(0, Math.min(1, (value + REACH) / (2 * REACH)));
        const from = share(posterior.mu[index] - deviation);
        const to = share(posterior.mu[index] + deviation);
        spread.style.setProperty("--from", from);
        spread.style.setProperty("--size", to - from);
      }
    },
  };
}
