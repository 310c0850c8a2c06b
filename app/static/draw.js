// A picture to its mean and spread, back to a picture, and a walk from there.

import { ask } from "./api.js";
import { bitmapOf } from "./bitmap.js";
import { $, blobOf, el, pictureOf, randomSeed } from "./dom.js";
import { encodedDigits, sourceFor } from "./encoded.js";
import { klOf, latents } from "./latents.js";
import { latest } from "./latest.js";
import { encoder, mostAtOnce, nameOf, partsOfName, sampleNamed } from "./models.js";
import { tellLeft } from "./notice.js";
import { packStrokes, pad, unpackStrokes } from "./pad.js";
import { plane, planesOf } from "./plane.js";

const DIGITS = 4; // of a latent in a request
const FAR = 1000; // from the middle, at most: what the service decodes
const ROWS = 8; // latents that are varied
const STEPS = 7; // of each

// What the service did to a picture before the encoder saw it, in words.
function doneTo({ width, height, steps }) {
  const done = steps.length ? steps.join(", ") : "taken as it is";
  return `Your picture of ${width} × ${height} pixels: ${done}.`;
}

// A point of an address; null = there is none, or not of this many latents.
function placeOf(text, size) {
  const place = text.split(",").map((part) => (part.trim() ? Number(part) : NaN));
  return place.length === size && place.every((value) => Math.abs(value) <= FAR) ? place : null;
}

export function draw(app) {
  const model = encoder();
  if (!model) {
    $("draw-body").hidden = true;
    $("draw-empty").hidden = false;
    $("draw-empty").textContent = "None of the served models can encode: that takes a VAE.";
    return { open() {}, params: () => ({}) };
  }

  const giver = sourceFor(model); // of digits to take, and of those on the map
  let source = { kind: "none" }; // none | strokes {strokes} | sample {name, sample} | file {file}
  let coming = null; // the name of a sample on its way to the pad
  let posterior = null; // {mu, logvar}
  let z = new Array(model.latent_dim).fill(0);
  let moved = false; // z is not the posterior's mean
  let walks = 0; // times that the point was moved by hand
  let points = [];
  let planes = [];
  let wanted = null; // plane's id
  let order = z.map((_, i) => i);

  const paper = pad((strokes) => {
    begin({ kind: "strokes", strokes });
    encode();
  });
  const map = plane({
    moved: (dx, dy) => walkTo(map.shifted(z, dx, dy)),
    picked: (point) => take(nameOf(point)),
  });
  const sliders = latents((index, value) => walkTo(z.map((old, i) => (i === index ? value : old))));

  // What is on the pad is now this; nothing that was on its way to it comes any more.
  function begin(next) {
    bring.stop();
    settle(next);
  }

  function settle(next) {
    coming = null;
    source = next;
    mark();
  }

  const mark = () => map.mark((point) => source.kind === "sample" && nameOf(point) === source.name);

  // What is on the pad, to send.
  async function picture() {
    if (source.kind === "strokes") return { name: "drawing.png", blob: await paper.blob() };
    if (source.kind === "file") return { name: source.file.name || "picture.png", blob: source.file };
    const { src, permalink } = source.sample;
    return { name: "digit.png", blob: blobOf(src), from: permalink };
  }

  // Where the encoder puts the picture; null = there is none, or it is not known.
  function around(found) {
    posterior = found;
    sliders.around(found);
    map.around(found);
    $("latent-mean").disabled = $("latent-sample").disabled = !found;
    if (!found) $("draw-beside-figure").hidden = true;
  }

  const encoding = latest(async (signal, { seed, kept, since }) => {
    const query = { model: model.pin, seed };
    let item;
    try {
      const { data } = await ask("/encode", { query, files: [await picture()], raw: true, signal });
      [item] = data.items;
    } catch (error) {
      if (!signal.aborted) around(null); // what is shown is of another picture
      throw error;
    }
    if (signal.aborted) return;
    around({ mu: item.mu, logvar: item.logvar });
    $("draw-done").textContent = doneTo(item.picture);
    beside();
    // Who has moved the point meanwhile wants it there.
    if (kept || walks !== since) moveTo(z);
    else moveTo(item.z, seed !== undefined);
  });

  // seed: z is drawn from the spread. kept: z is left where it is, for the address told it.
  const encode = ({ seed, kept = false } = {}) => encoding({ seed, kept, since: walks });

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
    const steps = Math.min(STEPS, mostAtOnce);
    const axes = order.slice(0, Math.min(ROWS, Math.floor(mostAtOnce / steps)));
    const query = { model: model.pin, axes: axes.join(","), steps: String(steps) };
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
    const alt = moved ? "What the moved point decodes to" : "Reconstruction of your picture";
    const { data } = await ask("/decode", { query: { model: model.pin }, json, as: "blob", signal });
    if (signal.aborted) return;
    const image = $("decoded");
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(data);
    image.alt = alt;
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

  // By hand, within what the service decodes.
  function walkTo(place) {
    walks += 1;
    moveTo(place.map((value) => Math.max(-FAR, Math.min(FAR, value))));
  }

  // A sample by its name, or a file, onto the pad.
  const bring = latest(async (signal, { name, file, kept }) => {
    const sample = file ? null : await sampleNamed(name, signal);
    const image = await (file ? bitmapOf(file) : pictureOf(sample.src));
    if (signal.aborted) return;
    paper.show(image);
    settle(file ? { kind: "file", file } : { kind: "sample", name, sample });
    encode({ kept });
  });

  function take(name, kept = false) {
    coming = name;
    bring({ name, kept });
  }

  function dropped(file) {
    coming = null;
    bring({ file });
  }

  function clearAll() {
    encoding.stop();
    beside.stop();
    paper.set([]);
    begin({ kind: "none" });
    around(null);
    moveTo(z.map(() => 0));
  }

  function arrange() {
    const kl = klOf(model, points);
    if (kl) order = kl.map((_, i) => i).sort((a, b) => kl[b] - kl[a]);
    sliders.build(order, kl);
    sliders.set(z);
    sliders.around(posterior);
    $("latent-hint").textContent =
      "The number in nats is the KL divergence from N(0, 1), what the latent tells of a picture. " +
      "Under each slider is where the encoder puts yours: its mean, and one standard deviation either side.";
  }

  function replan() {
    planes = planesOf(order, points, model.latent_dim);
    const select = $("plane-axes");
    select.replaceChildren(...planes.map(({ id, name }) => new Option(name, id)));
    const chosen = planes.find(({ id }) => id === wanted) ?? planes[0];
    select.value = chosen.id;
    map.show(points, chosen, giver.labels, z);
    mark();
  }

  const load = latest(async (signal) => {
    await encodedDigits(model, signal, (found) => {
      points = found;
      replan();
    });
    if (signal.aborted) return;
    if (!klOf(model, [])) {
      arrange(); // now that all digits are here, what each latent carries is reckoned from them
      replan();
    }
    if (wanted && !planes.some(({ id }) => id === wanted)) {
      wanted = null;
      tellLeft(["plane"]);
      app.save();
    }
  });

  $("pad-clear").addEventListener("click", clearAll);
  $("pad-undo").addEventListener("click", () => {
    const strokes = paper.undo();
    if (!strokes.length) clearAll();
    else {
      begin({ kind: "strokes", strokes });
      encode();
    }
  });
  $("pad-file").addEventListener("change", ({ target }) => {
    if (target.files.length) dropped(target.files[0]);
    target.value = "";
  });
  $("traverse").addEventListener("toggle", () => traverse(true));
  $("latent-mean").addEventListener("click", () => moveTo(posterior.mu, false));
  $("latent-sample").addEventListener("click", () => encode({ seed: randomSeed() }));
  $("plane-axes").addEventListener("change", ({ target }) => {
    wanted = target.value;
    replan();
    app.save();
  });
  $("draw-take").append(
    el("span", { class: "hint" }, "Take a "),
    ...(giver.labels.length ? giver.labels : [null]).map((label) => {
      const button = el("button", { type: "button" }, label ?? "sample");
      button.addEventListener("click", () => take(nameOf({ model: giver, label, seed: randomSeed() })));
      return button;
    }),
  );
  arrange();
  around(null);

  return {
    open(link) {
      const strokes = link.take("strokes", unpackStrokes) ?? [];
      const name = strokes.length ? null : link.take("from");
      if (name) partsOfName(name); // a link that cannot be followed changes nothing
      wanted = link.take("plane") ?? wanted; // which there are is known later
      const place = link.take("z", (text) => placeOf(text, z.length));
      const kept = place !== null;
      if (strokes.length) {
        paper.set(strokes);
        begin({ kind: "strokes", strokes });
        encode({ kept });
      } else if (name) take(name, kept);
      else if (source.kind !== "none") encode({ kept });
      else if (!place) {
        const label = giver.labels[Math.min(3, giver.labels.length - 1)] ?? null;
        take(nameOf({ model: giver, label, seed: 1 })); // something to look at, until somebody draws
      }
      if (place) moveTo(place);
      load();
    },
    close() {
      load.stop();
      bring.stop();
      encoding.stop();
      beside.stop();
      traverse.stop();
      decode.stop();
    },
    params() {
      return {
        strokes: source.kind === "strokes" && !coming ? packStrokes(source.strokes) : undefined,
        from: coming ?? (source.kind === "sample" ? source.name : undefined),
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
