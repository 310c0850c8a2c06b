// A picture to its mean and spread, back to a picture, and a walk from there.

import { ask } from "./api.js";
import { $, blobOf, el, pictureOf, randomSeed } from "./dom.js";
import { encodedDigits } from "./encoded.js";
import { klOf, latents } from "./latents.js";
import { latest } from "./latest.js";
import { conditional, encoder, modelOf, samples } from "./models.js";
import { explain } from "./notice.js";
import { packStrokes, pad, unpackStrokes } from "./pad.js";
import { plane, planesOf } from "./plane.js";

const DIGITS = 4; // of a latent in a request

export const pictureTypes = ["image/png", "image/jpeg", "image/webp"];

// "model,label,seed,truncation", as the board names a sample -> its picture.
export async function sampleNamed(text, signal) {
  const [name, label, seed, truncation] = text.split(",");
  const options = { signal, shown: false };
  const found = await samples(modelOf(name), label || null, [Number(seed)], Number(truncation || 1), options);
  return found[0];
}

export function draw(app) {
  const model = encoder();
  if (!model) {
    $("draw-body").hidden = true;
    $("draw-empty").hidden = false;
    $("draw-empty").textContent = "None of the served models can encode: that takes a VAE.";
    return { open() {}, params: () => ({}) };
  }

  let source = { kind: "none" }; // none | strokes {strokes} | sample {name} | file {file}
  let posterior = null; // {mu, logvar}
  let z = new Array(model.latent_dim).fill(0);
  let moved = false; // z is not the posterior's mean
  let points = [];
  let planes = [];
  let wanted = null; // plane's id
  let order = z.map((_, i) => i);
  let keep = false; // the next encoding leaves z where it is: the address told it

  const paper = pad((strokes) => {
    source = { kind: "strokes", strokes };
    encode();
  });
  const map = plane({
    moved: (dx, dy) => moveTo(map.shifted(z, dx, dy)),
    picked: (point) => {
      const name = [point.model.pin, point.label ?? "", point.seed, 1].join(",");
      take(name);
    },
  });
  const sliders = latents((index, value) => moveTo(z.map((old, i) => (i === index ? value : old))));

  async function body() {
    if (source.kind === "strokes") {
      return { body: await paper.blob(), type: "image/png", file: "drawing.png" };
    }
    if (source.kind === "sample") {
      return { body: blobOf(source.sample.src), type: "image/png", file: "digit.png" };
    }
    return { body: source.file, type: source.file.type, file: source.file.name || "picture.png" };
  }

  const encode = latest(async (signal, seed) => {
    const query = { model: model.pin, seed };
    const { data } = await ask("/encode", { query, ...(await body()), signal });
    const [item] = data.items;
    posterior = { mu: item.mu, logvar: item.logvar };
    sliders.around(posterior);
    map.around(posterior);
    $("latent-mean").disabled = $("latent-sample").disabled = false;
    if (keep) {
      keep = false;
      moveTo(z);
    } else moveTo(item.z, seed !== undefined);
  });

  const decode = latest(async (signal) => {
    const json = { z: [z.map((value) => Number(value.toFixed(DIGITS)))] };
    const query = { model: model.pin };
    const { data } = await ask("/decode", { query, json, as: "blob", signal });
    if (signal.aborted) return;
    const image = $("decoded");
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(data);
    image.alt = moved ? "What the moved point decodes to" : "Reconstruction of your picture";
    image.hidden = false;
    $("decoded-blank").hidden = true;
  });

  function moveTo(place, away = true) {
    z = place;
    moved = away;
    sliders.set(z);
    map.move(z);
    const off = posterior && Math.hypot(...z.map((value, i) => value - posterior.mu[i]));
    if (posterior) moved = off > 0.005;
    $("decoded-caption").textContent = moved
      ? `The point, ${posterior ? `${off.toFixed(1)} away from the mean, ` : ""}decoded`
      : "Reconstruction: the mean, decoded";
    app.save();
    decode();
  }

  const take = latest(async (signal, name) => {
    const sample = await sampleNamed(name, signal);
    paper.show(await pictureOf(sample.src));
    source = { kind: "sample", name, sample };
    encode();
  });

  async function dropped(file) {
    try {
      paper.show(await createImageBitmap(file));
    } catch (error) {
      explain(error);
      return;
    }
    source = { kind: "file", file };
    encode();
  }

  function clearAll() {
    encode.stop();
    paper.set([]);
    source = { kind: "none" };
    posterior = null;
    sliders.around(null);
    map.around(null);
    $("latent-mean").disabled = $("latent-sample").disabled = true;
    moveTo(z.map(() => 0));
  }

  function arrange() {
    const kl = klOf(model, points);
    if (kl) order = kl.map((_, i) => i).sort((a, b) => kl[b] - kl[a]);
    sliders.build(order, kl);
    sliders.set(z);
    sliders.around(posterior);
    $("latent-hint").textContent =
      "The band is the encoder's spread: one standard deviation around the mean. The number is " +
      "the KL divergence from N(0, 1), what the latent tells of a picture.";
  }

  function replan() {
    planes = planesOf(order, points, model.latent_dim);
    const select = $("plane-axes");
    select.replaceChildren(...planes.map(({ id, name }) => new Option(name, id)));
    const chosen = planes.find(({ id }) => id === wanted) ?? planes[0];
    select.value = chosen.id;
    const names = conditional()[0]?.labels ?? [];
    map.show(points, chosen, names, z);
  }

  const load = latest(async (signal) => {
    await encodedDigits(model, signal, (found) => {
      points = found;
      if (!model.metrics.kl_per_dimension_nats) arrange();
      replan();
    });
  });

  $("pad-clear").addEventListener("click", clearAll);
  $("pad-undo").addEventListener("click", () => {
    const strokes = paper.undo();
    if (!strokes.length) clearAll();
    else {
      source = { kind: "strokes", strokes };
      encode();
    }
  });
  $("pad-file").addEventListener("change", ({ target }) => {
    if (target.files.length) dropped(target.files[0]);
    target.value = "";
  });
  $("latent-mean").addEventListener("click", () => moveTo(posterior.mu, false));
  $("latent-sample").addEventListener("click", () => encode(randomSeed()));
  $("plane-axes").addEventListener("change", ({ target }) => {
    wanted = target.value;
    replan();
    app.save();
  });
  const giver = conditional()[0];
  if (giver) {
    $("draw-take").append(
      el("span", { class: "hint" }, "Take a "),
      ...giver.labels.map((label) => {
        const button = el("button", { type: "button" }, label);
        button.addEventListener("click", () => take([giver.pin, label, randomSeed(), 1].join(",")));
        return button;
      }),
    );
  }
  arrange();

  return {
    open(params) {
      wanted = params.get("plane") ?? wanted;
      const place = (params.get("z") ?? "").split(",").map(Number);
      keep = place.length === z.length && place.every(Number.isFinite);
      if (keep) z = place;
      const strokes = unpackStrokes(params.get("strokes") ?? "");
      if (strokes.length) {
        paper.set(strokes);
        source = { kind: "strokes", strokes };
        encode();
      } else if (params.get("from")) take(params.get("from"));
      else if (keep) {
        keep = false;
        moveTo(z);
      } else if (source.kind === "none" && giver) {
        const label = giver.labels[Math.min(3, giver.labels.length - 1)];
        take([giver.pin, label, 1, 1].join(",")); // something to look at, until somebody draws
      } else if (source.kind !== "none") encode();
      if (keep) moveTo(z);
      load();
    },
    close() {
      load.stop();
      take.stop();
      encode.stop();
      decode.stop();
    },
    params() {
      return {
        strokes: source.kind === "strokes" ? packStrokes(source.strokes) : undefined,
        from: source.kind === "sample" ? source.name : undefined,
        z: moved ? z.map((value) => value.toFixed(2)).join(",") : undefined,
        plane: wanted ?? undefined,
      };
    },
    dropped,
    // What is on the pad, for a morph: {blob, strokes}; null = nothing.
    async picture() {
      return source.kind === "none" ? null : (await body()).body;
    },
  };
}
