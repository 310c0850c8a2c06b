// A picture to its mean and spread, back to a picture, and a walk from there.

import { ask } from "./api.js";
import { $, blobOf, el, pictureOf, randomSeed } from "./dom.js";
import { encodedDigits } from "./encoded.js";
import { klOf, latents } from "./latents.js";
import { latest } from "./latest.js";
import { conditional, encoder, nameOf, sampleNamed } from "./models.js";
import { explain } from "./notice.js";
import { packStrokes, pad, unpackStrokes } from "./pad.js";
import { plane, planesOf } from "./plane.js";

const DIGITS = 4; // of a latent in a request
const ROWS = 8; // latents that are varied
const STEPS = 7; // of each: a request has 64 pictures at most

// What the service did to a picture before the encoder saw it, in words.
function doneTo({ width, height, steps }) {
  const done = steps.length ? steps.join(", ") : "taken as it is";
  return `Your picture of ${width} × ${height} pixels: ${done}.`;
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
      take(nameOf(point));
    },
  });
  const sliders = latents((index, value) => moveTo(z.map((old, i) => (i === index ? value : old))));

  // What is on the pad, to send.
  async function picture() {
    if (source.kind === "strokes") return { name: "drawing.png", blob: await paper.blob() };
    if (source.kind === "file") return { name: source.file.name || "picture.png", blob: source.file };
    const { src, permalink } = source.sample;
    return { name: "digit.png", blob: blobOf(src), from: permalink };
  }

  const encode = latest(async (signal, seed) => {
    const query = { model: model.pin, seed };
    const { data } = await ask("/encode", { query, files: [await picture()], raw: true, signal });
    const [item] = data.items;
    posterior = { mu: item.mu, logvar: item.logvar };
    $("draw-done").textContent = doneTo(item.picture);
    sliders.around(posterior);
    map.around(posterior);
    $("latent-mean").disabled = $("latent-sample").disabled = false;
    beside();
    if (keep) {
      keep = false;
      moveTo(z);
    } else moveTo(item.z, seed !== undefined);
  });

  // As the encoder saw the picture, what it keeps of it, and the difference.
  const beside = latest(async (signal) => {
    const query = { model: model.pin, show: "error" };
    const options = { query, files: [await picture()], raw: true, as: "blob", signal, shown: false };
    const { data } = await ask("/reconstruct", options);
    if (signal.aborted) return;
    const image = $("draw-beside");
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(data);
    $("draw-beside-figure").hidden = false;
  });

  const rounded = () => z.map((value) => Number(value.toFixed(DIGITS)));

  // The point with one latent after the other varied, a row each.
  const traverse = latest(async (signal, shown) => {
    if (!$("traverse").open) return;
    const axes = order.slice(0, ROWS);
    const query = { model: model.pin, axes: axes.join(","), steps: String(STEPS) };
    const options = { query, json: { z: rounded() }, as: "blob", signal, shown };
    const { data } = await ask("/traverse", options);
    if (signal.aborted) return;
    const image = $("traverse-image");
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(data);
    image.alt = `The point with latents ${axes.join(", ")} varied, a row each`;
    image.hidden = false;
    $("traverse-axes").textContent = `Row by row ${axes.map((i) => `z${i}`).join(", ")}, from −3 to 3.`;
  });

  const decode = latest(async (signal) => {
    const json = { z: [rounded()] };
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
    traverse(false);
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
    beside.stop();
    paper.set([]);
    source = { kind: "none" };
    posterior = null;
    $("draw-beside-figure").hidden = true;
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
  $("traverse").addEventListener("toggle", () => traverse(true));
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
        button.addEventListener("click", () => take(nameOf({ model: giver, label, seed: randomSeed() })));
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
        take(nameOf({ model: giver, label, seed: 1 })); // something to look at, until somebody draws
      } else if (source.kind !== "none") encode();
      if (keep) moveTo(z);
      load();
    },
    close() {
      load.stop();
      take.stop();
      encode.stop();
      beside.stop();
      traverse.stop();
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
    // What is on the pad, as an address names it: {strokes}, {from} or {file}; null = nothing.
    picture() {
      if (source.kind === "strokes") return { strokes: source.strokes };
      if (source.kind === "sample") return { from: source.name };
      return source.kind === "file" ? { file: source.file } : null;
    },
  };
}
