// How the networks work, in pictures of the real numbers: the three kinds side by side; encoder, mean and
// spread, sample, decoder; the two rivals.

import { request } from "./api.js";
import { $, blobOf, choices, el, pngAddress, randomSeed } from "./dom.js";
import { sourceFor } from "./encoded.js";
import { latest } from "./latest.js";
import { posteriorOf } from "./latents.js";
import { defaultModel, encoder, inkOf, maxImages, ofKind, samples } from "./models.js";
import { strokesImage } from "./pad.js";
import { rivals } from "./rivals.js";
import { MAX_SEED, parseSeeds, seedsFrom } from "./seeds.js";
import { TYPICAL } from "./state.js";
import { COUNTS, named } from "./words.js";

const SAMPLES = 8; // of the posterior, and of the prior
const REACH = 2.5; // a number of this size has the full colour

function normal() {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random())); // Box and Muller 1958
  return radius * Math.cos(2 * Math.PI * Math.random());
}

// Numbers as a square of cells; `colour` gives [r, g, b] of each.
function paintNumbers(canvas, numbers, colour) {
  const side = Math.ceil(Math.sqrt(numbers.length));
  canvas.width = side;
  canvas.height = Math.ceil(numbers.length / side);
  const pen = canvas.getContext("2d");
  numbers.forEach((value, i) => {
    pen.fillStyle = `rgb(${colour(value).join(" ")})`;
    pen.fillRect(i % side, Math.floor(i / side), 1, 1);
  });
}

// Blue below 0, orange above, grey at 0; small numbers are told apart too.
function signed(value) {
  const share = Math.sqrt(Math.min(1, Math.abs(value) / REACH));
  return (value < 0 ? [90, 165, 255] : [255, 165, 50]).map((part) => Math.round(48 + (part - 48) * share));
}
const digit = (src) => el("img", { class: "digit ink", alt: "", src });

export function how(app) {
  const vae = encoder();
  const source = vae && sourceFor(vae);
  const near = vae ?? defaultModel;
  const [gan, cgan] = ["gan", "cgan"].map((kind) => ofKind(kind, near));
  const ways = Object.entries({ gan, cgan, vae }).filter(([, model]) => model);
  const both = rivals();
  const labels = (cgan ?? source)?.labels ?? [];
  $("how-vae").hidden = !vae;
  $("how-three").hidden = ways.length < 2;
  $("how-empty").hidden = Boolean(vae || both.some);
  for (const kind of ["gan", "cgan", "vae"]) $(`way-${kind}`).hidden = !ways.some(([one]) => one === kind);
  for (const [kind, model] of ways) $(`way-${kind}`).classList.toggle("photos", inkOf(model) === "photo");
  if (vae) $("how-vae").classList.toggle("photos", inkOf(vae) === "photo");
  let label = labels[Math.min(7, labels.length - 1)] ?? null;
  let seed = 1; // of the picture that is encoded
  let own = true; // a drawing of the visitor, if there is one, is encoded instead
  let posterior = null;

  const known = (model) => (model.labels.includes(label) ? label : null);

  const encode = latest(async (signal) => {
    $("how-three-title").textContent = `${named(label)}, ${COUNTS[ways.length]} ways`;
    for (const button of $("how-labels").children) button.setAttribute("aria-pressed", String(button.textContent === label));
    if (!vae) return draw();
    const drawn = own && app.view("draw").picture?.(); // what the visitor has drawn, if anything
    const theirs = drawn && !drawn.from;
    let blob;
    if (theirs) blob = drawn.file ?? (await strokesImage(drawn.strokes));
    else blob = blobOf((await samples(source, known(source), [seed], 1, { signal, shown: false }))[0].src);
    const files = [{ name: "picture.png", blob }];
    const { data } = await request("/encode", { query: { model: vae.pin }, files, raw: true, signal });
    if (signal.aborted) return;
    posterior = posteriorOf(data.items[0]);
    for (const image of [$("how-input"), $("way-vae-in")]) {
      URL.revokeObjectURL(image.src);
      image.src = URL.createObjectURL(blob);
      image.alt = theirs ? "Your picture" : `The picture that is encoded${label === null ? "" : `: ${label}`}`;
    }
    const spreads = posterior.logvar.map((value) => Math.exp(value / 2));
    const [least, most] = [Math.min(...spreads), Math.max(...spreads)];
    for (const id of ["how-mean", "way-vae-mean"]) paintNumbers($(id), posterior.mu, signed);
    paintNumbers($("how-spread"), spreads, (value) => new Array(3).fill(Math.round((255 * value) / (most || 1))));
    $("how-sure").textContent = `From ±${least.toFixed(2)} (darkest) to ±${most.toFixed(2)} (white).`;
    draw();
  });

  // New random numbers for all: a picture of each kind, a sample of the posterior, and of the prior.
  const draw = latest(async (signal) => {
    const fresh = randomSeed();
    await Promise.all(
      ways.filter(([kind]) => kind !== "vae").map(async ([kind, model]) => {
        const [{ src }] = await samples(model, known(model), [fresh], TYPICAL, { signal, shown: false });
        if (signal.aborted) return;
        $(`way-${kind}-out`).src = src;
        $(`way-${kind}-in`).textContent = `${model.latent_dim} random numbers`;
      }),
    );
    $("way-cgan-label").textContent = label ?? "";
    if (!vae || !posterior || signal.aborted) return;
    const count = Math.min(SAMPLES, maxImages);
    const drawn = Array.from({ length: count }, () => posterior.mu.map((mean, i) => mean + Math.exp(posterior.logvar[i] / 2) * normal()));
    const z = drawn.map((point) => point.map((value) => Number(value.toFixed(4))));
    const { data } = await request("/decode", { query: { model: vae.pin, format: "json" }, json: { z }, signal });
    const free = await samples(vae, null, seedsFrom(randomSeed(), count), 1, { signal, shown: false });
    if (signal.aborted) return;
    paintNumbers($("how-sample"), z[0], signed);
    const decoded = data.items.map(({ image }) => pngAddress(image));
    $("how-output").src = $("way-vae-out").src = decoded[0];
    $("how-posterior").replaceChildren(...decoded.map(digit));
    $("how-prior").replaceChildren(...free.map(({ src }) => digit(src)));
  });

  const choose = (name) => {
    label = name;
    own = false;
    seed = seed < MAX_SEED ? seed + 1 : 0;
    app.save();
    encode();
  };
  $("how-labels").append(...choices(labels, choose, vae && "another"));
  $("how-choose").hidden = !vae && ways.length < 2;
  for (const id of ["how-new", "how-again"]) $(id).addEventListener("click", () => draw());

  return {
    open(link) {
      label = link.take("label", (text) => (labels.includes(text) ? text : null)) ?? label;
      [seed] = link.take("seed", (text) => parseSeeds(text, 1)) ?? [seed];
      own = true;
      app.save();
      if (vae || ways.length > 1) encode();
      both.open();
    },
    close() {
      both.close();
      for (const work of [encode, draw]) work.stop();
    },
    params: () => ({ label: label ?? undefined, seed: vae ? String(seed) : undefined }),
  };
}
