// Encode an image, decode its mean, and move through the latent space from there.

import { Problem, request, sleep } from "./api.js";
import { bitmapOf } from "./bitmap.js";
import { $, blobOf, choices, imageOf, pngAddress, randomSeed } from "./dom.js";
import { keep, takeOver } from "./drawing.js";
import { encodedImages, groundOf, sourceFor } from "./encoded.js";
import { RANGE, UNFOLDED, klOf, latents, posteriorOf } from "./latents.js";
import { latest } from "./latest.js";
import { encoder, encoders, fillModels, inkOf, maxImages, modelOf, nameOf, partsOfName, sampleNamed } from "./models.js";
import { showIgnored } from "./notice.js";
import { packStrokes, pad, unpackStrokes } from "./pad.js";
import { plane } from "./plane.js";
import { planesOf } from "./planes.js";
import { MAX_LATENT, TYPICAL, placeIn } from "./state.js";
import { showVerdict } from "./verdict.js";

const DECIMALS = 4; // of a latent in a request
const REST_MS = 200; // without a move, before the sliders' ends are decoded

export function draw(app) {
  let model = encoder();
  if (!model) {
    for (const id of ["draw-body", "draw-sliders", "draw-lead"]) $(id).hidden = true;
    $("draw-empty").hidden = false;
    return { open() {}, params: () => ({}) };
  }

  let generator; // of the samples to use, and of the images on the map
  let source = { kind: "none" }; // none | strokes {strokes} | sample {name, sample} | file {file}
  let loading = null; // name of the sample that is being loaded
  let posterior = null; // {mu, logvar}
  let z = [];
  let moved = false; // z is not the posterior's mean
  let first = true; // the picture is the page's own
  let hint = ""; // what the pad asks for
  let clear = false; // nothing is decoded until something is drawn, taken or moved
  let moves = 0; // times that the user moved the point
  let points = [];
  let planes = [];
  let wanted = null; // id of the plane to show
  let order = [];
  let fit = null; // share of unseen pictures of its training that fit worse; null = not measured

  const paper = pad($("pad"), (strokes) => {
    begin({ kind: "strokes", strokes });
    encode();
  });
  const map = plane($("plane"), {
    title: "plane-title",
    hint: "plane-hint",
    onMove: (dx, dy) => userMoveTo(map.shifted(z, dx, dy)),
    onPick: (point) => take(nameOf(point)),
  });
  const sliders = latents((index, value) => userMoveTo(z.map((old, i) => (i === index ? value : old))));

  // Show something new on the pad, and cancel what is being loaded for it.
  function begin(next) {
    bring.stop();
    settle(next);
  }

  function settle(next) {
    loading = null;
    source = next;
    clear = false;
    keep(next.kind === "strokes" ? next.strokes : [], "draw");
    $("draw-morph").disabled = next.kind === "none";
    $("pad-hint").hidden = next.kind !== "none" && !first;
    $("pad-hint").textContent = next.kind === "none" ? hint : `drawn by a network; ${hint}`;
    $("pad-hint").classList.toggle("over", next.kind !== "none");
    first = false;
    mark();
  }

  const mark = () => map.mark((point) => source.kind === "sample" && nameOf(point) === source.name);

  // The image on the pad, as an upload.
  async function upload() {
    if (source.kind === "strokes") return { name: "drawing.png", blob: await paper.blob() };
    if (source.kind === "file") return { name: source.file.name || "picture.png", blob: source.file };
    const { src, permalink } = source.sample;
    return { name: "digit.png", blob: blobOf(src), from: permalink };
  }

  // Show the encoder's posterior; null = there is no image, or its posterior is unknown.
  function setPosterior(given) {
    posterior = given;
    sliders.setPosterior(given);
    map.setPosterior(given);
    $("latent-mean").disabled = !given;
    $("latent-sample").disabled = !given || given.logvar[0] === -Infinity; // a point has no spread
    if (!given) fit = null;
    if (!given) $("draw-done").textContent = "";
  }

  const encoding = latest(async (signal, { seed, kept, since }) => {
    const query = { model: model.pin, seed };
    let item;
    try {
      const { data } = await request("/encode", { query, files: [await upload()], raw: true, signal });
      [item] = data.items;
    } catch (error) {
      if (!signal.aborted) setPosterior(null); // the one shown is of another image
      throw error;
    }
    if (signal.aborted) return;
    setPosterior(posteriorOf(item));
    fit = item.fit ?? null;
    const { width, height, steps } = item.picture;
    $("draw-done").textContent = `Your image of ${width} × ${height} pixels: ${steps.join(", ") || "unchanged"}.`;
    // If the user has moved the point meanwhile, it stays there.
    if (kept || moves !== since) moveTo(z);
    else moveTo(item.z, seed !== undefined);
  });

  // seed: sample z from the posterior. kept: leave z as it is, because the address has it.
  const encode = ({ seed, kept = false } = {}) => encoding({ seed, kept, since: moves });

  const rounded = () => z.map((value) => Number(value.toFixed(DECIMALS)));

  // What each slider would give at its ends, once the point rests.
  const ends = latest(
    async (signal) => {
      await sleep(REST_MS, signal);
      const indices = order.slice(0, Math.min(UNFOLDED, Math.floor(maxImages / 2)));
      const at = (index, value) => rounded().map((old, i) => (i === index ? value : old));
      const json = { z: indices.flatMap((index) => [at(index, -RANGE), at(index, RANGE)]) };
      const { data } = await request("/decode", { query: { model: model.pin, format: "json" }, json, signal, shown: false });
      if (signal.aborted) return;
      const src = (place) => pngAddress(data.items[place].image);
      indices.forEach((index, i) => sliders.setEnds(index, src(2 * i), src(2 * i + 1)));
    },
    { quiet: true },
  );

  const decode = latest(async (signal) => {
    const json = { z: [rounded()] };
    if (clear) return;
    const alt = moved ? "Decoded point" : "Reconstruction of your image";
    const { data } = await request("/decode", { query: { model: model.pin }, json, as: "blob", signal });
    if (signal.aborted) return;
    const image = $("decoded");
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(data);
    map.setPicture(image.src);
    $("decoded-again").src = image.src;
    image.alt = alt;
    image.hidden = false;
    ends();
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
      ? `Decoded point${posterior ? `, ${off.toFixed(1)} away from your picture` : ""}`
      : "Drawn again from its numbers";
    app.save();
    decode();
    judge();
  }

  const judge = () => !clear && showVerdict({ points, labels: generator.labels, z, fit, moved: moved || !posterior });

  // Moved by the user, within what the service decodes.
  function userMoveTo(place) {
    moves += 1;
    clear = false;
    moveTo(place.map((value) => Math.max(-MAX_LATENT, Math.min(MAX_LATENT, value))));
  }

  // Load a sample by its name, or a file, onto the pad.
  const bring = latest(async (signal, { name, file, kept }) => {
    const sample = file ? null : await sampleNamed(name, signal);
    const image = await (file ? bitmapOf(file) : imageOf(sample.src));
    if (signal.aborted) return;
    paper.show(image);
    settle(file ? { kind: "file", file } : { kind: "sample", name, sample });
    encode({ kept });
  });

  const take = (name, kept = false) => bring({ name: (loading = name), kept });
  const dropped = (file) => bring({ file, name: (loading = null) });

  function clearAll() {
    for (const work of [encoding, decode, ends]) work.stop();
    paper.set([]);
    begin({ kind: "none" });
    setPosterior(null);
    clear = true;
    moveTo(z.map(() => 0));
    for (const id of ["decoded-caption", "draw-verdict", "draw-why"]) $(id).textContent = "";
    [$("draw-fit").hidden, $("decoded").hidden, $("decoded-blank").hidden] = [true, true, false];
    map.setPicture("");
    $("decoded-again").removeAttribute("src");
  }

  // What was drawn on another pad, or cleared there.
  function adopt() {
    const strokes = takeOver("draw");
    if (!strokes) return;
    paper.set(strokes);
    if (strokes.length) begin({ kind: "strokes", strokes });
    else clearAll();
  }

  function arrange() {
    const kl = klOf(model, points);
    if (kl) order = kl.map((_, i) => i).sort((a, b) => kl[b] - kl[a]);
    sliders.build(order, kl);
    sliders.set(z);
    sliders.setPosterior(posterior);
  }

  function replan() {
    planes = planesOf(order, points, model.latent_dim);
    const select = $("plane-axes");
    select.replaceChildren(...planes.map(({ id, name }) => new Option(name, id)));
    const chosen = planes.find(({ id }) => id === wanted) ?? planes[0];
    select.value = chosen.id;
    map.show(points, chosen, generator.labels, z);
    mark();
    judge();
    ground();
  }

  const ground = latest(
    async (signal) => {
      const bitmap = await groundOf(model, map, signal);
      if (!signal.aborted) map.setGround(bitmap);
    },
    { quiet: true },
  );

  const load = latest(async (signal) => {
    const found = await encodedImages(model, signal);
    if (signal.aborted) return;
    points = found;
    if (!klOf(model, [])) {
      arrange(); // compute the KL of each latent from the images
      ends(); // the sliders are new
    }
    replan();
    if (wanted && !planes.some(({ id }) => id === wanted)) {
      wanted = null;
      showIgnored(["plane"]);
      app.save();
    }
  });

  $("pad-clear").addEventListener("click", clearAll);
  $("pad-undo").addEventListener("click", () => {
    if (source.kind !== "strokes") return; // a picture is cleared, not undone
    const strokes = paper.undo();
    if (!strokes.length) clearAll();
    else {
      begin({ kind: "strokes", strokes });
      encode();
    }
  });
  for (const id of ["pad-file", "pad-camera"]) {
    $(id).addEventListener("change", ({ target }) => {
      if (target.files.length) dropped(target.files[0]);
      target.value = "";
    });
  }
  $("draw-morph").addEventListener("click", () => {
    const { kind, strokes, name, file } = source;
    app.go("morph", kind === "file" ? {} : { a: kind === "strokes" ? `strokes:${packStrokes(strokes)}` : name });
    if (kind === "file") app.view("morph").begin(file); // no link can have it
  });
  $("latent-mean").addEventListener("click", () => moveTo(posterior.mu, false));
  $("latent-sample").addEventListener("click", () => encode({ seed: randomSeed() }));
  $("plane-axes").addEventListener("change", ({ target }) => {
    wanted = target.value;
    replan();
    app.save();
  });
  // Encode with this model from now on.
  function use(next) {
    close();
    [model, generator] = [next, sourceFor(next)];
    z = new Array(model.latent_dim).fill(0);
    order = z.map((_, i) => i);
    [points, planes, wanted, moved] = [[], [], null, false];
    map.clear();
    const photos = inkOf(model) === "photo";
    $("view-draw").classList.toggle("photos", photos);
    $("pad-hint").textContent = hint = photos ? "a photo here" : "draw here";
    $("draw-numbers").textContent = model.latent_dim === 1 ? "1 number" : `${model.latent_dim} numbers`;
    $("draw-model").value = model.pin;
    const taking = (label) => take(nameOf({ model: generator, label, seed: randomSeed(), truncation: TYPICAL }));
    $("draw-take").replaceChildren(...choices(generator.labels, taking, "sample"));
    arrange();
    setPosterior(null);
  }

  // What stands on the pad at first, until the user draws.
  const takeFirst = () => take(nameOf({ model: generator, label: generator.labels[Math.min(3, generator.labels.length - 1)] ?? null, seed: 1, truncation: TYPICAL }));

  const close = () => [load, ground, bring, encoding, ends, decode].forEach((work) => work.stop());

  fillModels($("draw-model"), encoders());
  $("draw-models").hidden = encoders().length < 2;
  $("draw-model").addEventListener("change", ({ target }) => {
    use(modelOf(target.value));
    if (["strokes", "file"].includes(source.kind)) encode();
    else takeFirst();
    load();
  });
  use(model);

  return {
    open(link) {
      adopt();
      const strokes = link.take("strokes", unpackStrokes) ?? [];
      const name = strokes.length ? null : link.take("from");
      const parts = name ? partsOfName(name) : null; // an invalid link changes nothing
      if (parts && !encoder(parts.model)) {
        const names = encoders().map((one) => one.name).join(", ");
        throw new Problem(422, "Not possible", `${names} cannot encode pictures of ${parts.model.name}: they learned from others.`);
      }
      // What names no model is of the default one, as ``params`` leaves that out.
      const unnamed = strokes.length || link.has("z") ? encoder() : model;
      const linked = modelOf(link.take("model"), (parts && encoder(parts.model)) ?? unnamed);
      if (linked !== model && encoders().includes(linked)) use(linked);
      wanted = link.take("plane") ?? wanted; // checked once the planes are known
      const place = link.take("z", (text) => placeIn(text, z.length));
      const kept = place !== null;
      if (strokes.length) {
        paper.set(strokes);
        begin({ kind: "strokes", strokes });
        encode({ kept });
      } else if (name) take(name, kept);
      else if (source.kind !== "none") encode({ kept });
      else if (!place && !clear) takeFirst();
      if (place) {
        clear = false;
        moveTo(place);
      }
      load();
    },
    close,
    params() {
      adopt();
      return {
        model: model === encoder() ? undefined : model.pin,
        strokes: source.kind === "strokes" && !loading ? packStrokes(source.strokes) : undefined,
        from: loading ?? (source.kind === "sample" ? source.name : undefined),
        z: moved && !clear ? z.map((value) => value.toFixed(2)).join(",") : undefined,
        plane: wanted ?? undefined,
      };
    },
    dropped,
    // The image on the pad, in the form of an end: {strokes}, {from} or {file}; null = none.
    picture() {
      adopt();
      if (source.kind === "strokes") return { strokes: source.strokes };
      if (source.kind === "sample") return { from: source.name };
      return source.kind === "file" ? { file: source.file } : null;
    },
  };
}
