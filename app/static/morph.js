// Interpolation between two images: between seeds of one label in the generator's latent space,
// between anything else in the VAE's.

import { Problem, request } from "./api.js";
import { bitmapOf } from "./bitmap.js";
import { $, announce, blobOf, el, pngAddress, randomSeed } from "./dom.js";
import { latest } from "./latest.js";
import { conditional, defaultModel, encoder, generatorFor, inkOf, maxImages, nameOf, partsOfName, sampleNamed } from "./models.js";
import { packStrokes, strokesImage, unpackStrokes } from "./pad.js";
import { MAX_SEED, parseSeeds } from "./seeds.js";
import { TYPICAL } from "./state.js";

const FRAME_MS = 80;
const SCALE = 8; // of the saved animation
const STROKES = "strokes:"; // prefix of a drawing in an address

// One end: {from: a sample's name}, {strokes} or {file}.
const textOf = ({ from, strokes }) => from ?? (strokes && packStrokes(strokes) && STROKES + packStrokes(strokes));

// The end that an address names; throws a Problem if it cannot be shown.
function endOf(text) {
  if (!text.startsWith(STROKES)) {
    partsOfName(text);
    return { from: text };
  }
  const strokes = unpackStrokes(text.slice(STROKES.length));
  if (!strokes) throw new Problem(422, "Invalid drawing", "The link has a drawing that cannot be read.");
  return { strokes };
}

// The model of the first ends: a conditional one, if possible one whose images the encoder can read.
function initialGenerator() {
  const vae = encoder();
  return (vae && generatorFor(vae)) ?? conditional()[0] ?? defaultModel;
}

// Offer only as many steps as one request may have.
function offerSteps() {
  const select = $("morph-steps");
  for (const option of [...select.options]) if (Number(option.value) > maxImages) option.remove();
  if (!select.options.length) select.append(new Option(String(maxImages)));
}

export function morph(app) {
  const generator = initialGenerator();
  const labelOf = (index) => generator.labels[Math.min(index, generator.labels.length - 1)] ?? null;
  const ends = {
    a: { from: nameOf({ model: generator, label: labelOf(3), seed: 2, truncation: TYPICAL }) },
    // Another label only if there is a path to it.
    b: { from: nameOf({ model: generator, label: labelOf(encoder(generator) ? 8 : 3), seed: 4, truncation: TYPICAL }) },
  };
  const boxes = {};
  let frames = []; // addresses of the images
  let path = null; // their request: {query, files, how}
  let place = 0;
  let playing = 0;

  // An end's image: {blob, src, from}; only a sample has src and from.
  async function imageOfEnd(end, signal) {
    if (!end.from) return { blob: end.file ?? (await strokesImage(end.strokes)) };
    const { src, permalink } = await sampleNamed(end.from, signal);
    return { blob: blobOf(src), src, from: permalink };
  }

  // What leads from one end to another: `styles`, the parts of two samples that differ in their seeds
  // alone, or a `vae` that can encode both; neither = nothing does.
  function wayOf(pair) {
    const [a, b] = pair.map((end) => end.from && partsOfName(end.from));
    const alike = a && b && a.model === b.model && a.label === b.label && a.truncation === b.truncation;
    return alike ? { styles: [a, b] } : { vae: encoder(...[a, b].filter(Boolean).map(({ model }) => model)) };
  }

  // Where nothing leads from a sample to the other end, that becomes another style of the same label.
  function follow(key) {
    const other = key === "a" ? "b" : "a";
    const { styles, vae } = wayOf([ends.a, ends.b]);
    if (!ends[key].from || styles || vae) return;
    const parts = partsOfName(ends[key].from);
    const former = ends[other].from && partsOfName(ends[other].from);
    const kept = former && former.model === parts.model && former.seed !== parts.seed;
    const seed = kept ? former.seed : parts.seed < MAX_SEED ? parts.seed + 1 : 0;
    ends[other] = { from: nameOf({ ...parts, seed }) };
    refresh(other);
  }

  // The request for the path between two ends: by seeds if they differ in nothing else.
  function plan(pair, images) {
    const common = { steps: $("morph-steps").value, method: $("morph-method").value };
    const { styles, vae } = wayOf(pair);
    if (styles) {
      const [a, b] = styles;
      const truncation = a.truncation === 1 || !a.model.truncation ? undefined : String(a.truncation);
      const query = { model: a.model.pin, label: a.label, seeds: `${a.seed},${b.seed}`, truncation };
      return { model: a.model, query: { ...query, ...common }, how: `through the latent space of ${a.model.name}` };
    }
    if (!vae) {
      const names = new Set(pair.filter(({ from }) => from).map(({ from }) => partsOfName(from).model.name));
      const need = "Ends with different labels or models, and uploaded or drawn ends, need a VAE trained on the same kind of image";
      throw new Problem(422, "No path between these", `${need} as ${[...names].join(" and ") || "these"}. None is served.`);
    }
    return {
      model: vae,
      query: { model: vae.pin, ...common },
      files: images.map(({ blob, from }, i) => ({ name: ["start.png", "end.png"][i], blob, from })),
      how: `through the latent space of ${vae.name}, the model that can encode both ends`,
    };
  }

  const show = latest(async (signal) => {
    stop();
    try {
      const pair = [ends.a, ends.b]; // as they are now
      const images = [];
      for (const end of pair) images.push(await imageOfEnd(end, signal));
      if (signal.aborted) return;
      images.forEach(({ src, blob }, index) => {
        const { img } = boxes[["a", "b"][index]];
        if (img.src.startsWith("blob:")) URL.revokeObjectURL(img.src);
        img.src = src ?? URL.createObjectURL(blob);
      });
      const planned = plan(pair, images);
      const query = { ...planned.query, format: "json" };
      const { data } = await request("/interpolate", { ...planned, query, signal });
      if (signal.aborted) return;
      path = planned;
      $("view-morph").classList.toggle("photos", inkOf(planned.model) === "photo");
      frames = data.items.map(({ image }) => pngAddress(image));
    } catch (error) {
      if (!signal.aborted) blank(); // the frames shown are of other ends
      throw error;
    }
    stop(); // playing the former path
    $("morph-how").textContent = `${frames.length} images, ${path.how}.`;
    $("morph-frames").replaceChildren(...frames.map(thumbnail));
    setEnabled(true);
    $("morph-scrub").max = frames.length - 1;
    turnTo(Math.min(place, frames.length - 1));
  });

  // Enable or disable the controls of the path.
  function setEnabled(yes) {
    for (const id of ["morph-scrub", "morph-play", "morph-save"]) $(id).disabled = !yes;
    $("morph-blank").hidden = yes;
    $("morph-frame").hidden = !yes;
  }

  function blank() {
    stop();
    frames = [];
    $("morph-how").textContent = "";
    $("morph-frames").replaceChildren();
    setEnabled(false);
  }

  function thumbnail(src, index) {
    const img = el("img", { class: "digit ink", alt: "", src });
    img.addEventListener("click", () => {
      stop();
      turnTo(index);
    });
    return img;
  }

  function turnTo(index) {
    place = index;
    $("morph-frame").src = frames[index];
    $("morph-frame").alt = `Image ${index + 1} of ${frames.length} on the path`;
    $("morph-scrub").value = index;
    $("morph-scrub").setAttribute("aria-valuetext", `image ${index + 1} of ${frames.length}`);
    [...$("morph-frames").children].forEach((img, i) => img.classList.toggle("now", i === index));
    if (!playing) app.save();
  }

  function stop() {
    clearInterval(playing);
    playing = 0;
    $("morph-play").textContent = "Play";
    $("morph-play").setAttribute("aria-pressed", "false");
  }

  // Forwards and backwards, repeatedly.
  function play() {
    let step = place >= frames.length - 1 ? -1 : 1;
    $("morph-play").textContent = "Pause";
    $("morph-play").setAttribute("aria-pressed", "true");
    playing = setInterval(() => {
      if (place + step < 0 || place + step >= frames.length) step = -step;
      turnTo(Math.max(0, Math.min(frames.length - 1, place + step)));
    }, FRAME_MS);
  }

  const save = latest(async (signal) => {
    const query = { ...path.query, layout: "animation", format: "webp", frame_ms: String(FRAME_MS), scale: String(SCALE) };
    const { data } = await request("/interpolate", { ...path, query, as: "blob", signal });
    if (signal.aborted) return;
    const link = el("a", { href: URL.createObjectURL(data), download: "morph.webp" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    announce("Saved as morph.webp");
  });

  // A file becomes an end once it is known to be an image.
  const readers = Object.fromEntries(
    ["a", "b"].map((key) => [
      key,
      latest(async (signal, file) => {
        (await bitmapOf(file)).close();
        if (!signal.aborted) settle(key, { file });
      }),
    ]),
  );

  function change(key, end) {
    readers[key].stop();
    settle(key, end);
  }

  function settle(key, end) {
    ends[key] = end;
    refresh(key);
    follow(key);
    app.save();
    show();
  }

  // Show in an end's controls what it is.
  function refresh(key) {
    const { label, seed, box } = boxes[key];
    const end = ends[key];
    for (const field of [label, seed]) field.parentElement.hidden = !end.from; // a sample's
    if (!end.from) {
      box.querySelector("h3").textContent = `${box.dataset.title}: ${end.file ? "a file" : "a drawing"}`;
      return;
    }
    const parts = partsOfName(end.from);
    box.querySelector("h3").textContent = `${box.dataset.title}: ${parts.label ?? parts.model.name}, seed ${parts.seed}`;
    label.replaceChildren(...parts.model.labels.map((name) => new Option(name)));
    label.parentElement.hidden = !parts.model.labels.length;
    label.value = parts.label;
    seed.value = parts.seed;
  }

  function buildEnd(key, title) {
    const box = $(`morph-${key}`);
    box.dataset.title = title;
    const img = el("img", { class: "digit ink", alt: "", width: 112, height: 112 });
    const label = el("select");
    const seed = el("input", { type: "number", min: 0, max: MAX_SEED, step: 1, required: true });
    const other = el("button", { type: "button" }, "Another seed");
    const drawing = el("button", { type: "button" }, "My drawing");
    const file = el("input", { type: "file", class: "visually-hidden", accept: "image/png,image/jpeg,image/webp" });
    boxes[key] = { box, img, label, seed };
    // A control changes the sample that the end is; a drawing or file is replaced by a first sample.
    const parts = () => (ends[key].from ? partsOfName(ends[key].from) : { model: generator, label: labelOf(0), seed: 1 });
    const take = (part) => change(key, { from: nameOf({ ...parts(), ...part }) });
    label.addEventListener("change", () => take({ label: label.value }));
    seed.addEventListener("change", () => seed.reportValidity() && take({ seed: seed.valueAsNumber }));
    other.addEventListener("click", () => take({ seed: randomSeed() }));
    drawing.addEventListener("click", () => {
      const drawn = app.view("draw").picture?.();
      if (drawn) change(key, drawn);
      else announce("The drawing area is empty: draw something first");
    });
    file.addEventListener("change", () => {
      if (file.files.length) readers[key](file.files[0]);
      file.value = "";
    });
    box.append(
      el("h3", {}, title),
      img,
      el("div", { class: "controls" }, el("label", {}, "Label ", label), el("label", {}, "Seed ", seed), other),
      el("div", { class: "controls" }, drawing, el("label", { class: "button" }, "Image file", file)),
    );
  }
  offerSteps();
  buildEnd("a", "Start");
  buildEnd("b", "End");

  $("morph-scrub").addEventListener("input", ({ target }) => {
    stop();
    turnTo(Number(target.value));
  });
  $("morph-play").addEventListener("click", () => {
    if (playing) {
      stop();
      app.save();
    } else play();
  });
  $("morph-save").addEventListener("click", () => save());
  for (const id of ["morph-steps", "morph-method"]) {
    $(id).addEventListener("change", () => {
      app.save();
      show();
    });
  }

  return {
    open(link) {
      const linked = {}; // all is checked before any is applied
      for (const key of ["a", "b"]) {
        const end = link.take(key);
        if (end) linked[key] = endOf(end);
      }
      Object.assign(ends, linked);
      for (const key of ["a", "b"]) refresh(key);
      const [one, ...more] = Object.keys(linked);
      if (one && !more.length) follow(one);
      for (const name of ["steps", "method"]) {
        const select = $(`morph-${name}`);
        const offered = [...select.options].map(({ value }) => value);
        const chosen = link.take(name, (text) => (offered.includes(text) ? text : null));
        if (chosen) select.value = chosen;
      }
      [place] = link.take("at", (text) => parseSeeds(text, 1)) ?? [place];
      app.save();
      show();
    },
    close() {
      stop();
      for (const work of [show, save, readers.a, readers.b]) work.stop();
    },
    params: () => ({
      a: textOf(ends.a),
      b: textOf(ends.b),
      steps: $("morph-steps").value,
      method: $("morph-method").value,
      at: String(place),
    }),
    // A dropped image becomes the end, one from another view the start.
    dropped: (file) => readers.b(file),
    begin: (file) => readers.a(file),
  };
}
