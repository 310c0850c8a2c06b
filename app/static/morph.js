// From one picture to another: between seeds of one label in the generator's own latent space,
// between anything else in the VAE's.

import { Problem, ask } from "./api.js";
import { bitmapOf } from "./bitmap.js";
import { $, announce, blobOf, el, pngAddress, randomSeed } from "./dom.js";
import { latest } from "./latest.js";
import { conditional, encoder, giverFor, mostAtOnce, nameOf, partsOfName, sampleNamed, standard } from "./models.js";
import { packStrokes, strokesPicture, unpackStrokes } from "./pad.js";
import { MAX_SEED, parseSeeds } from "./seeds.js";

const FRAME_MS = 80;
const SCALE = 8; // of the saved animation
const DRAWN = "strokes:"; // before a drawing in an address

// One end: {from: a sample's name}, {strokes} or {file}.
const textOf = ({ from, strokes }) => from ?? (strokes && packStrokes(strokes) && DRAWN + packStrokes(strokes));

// The end of an address; one that cannot be shown is a Problem.
function endOf(text) {
  if (!text.startsWith(DRAWN)) {
    partsOfName(text);
    return { from: text };
  }
  const strokes = unpackStrokes(text.slice(DRAWN.length));
  if (!strokes) throw new Problem(422, "No drawing", "The link names a drawing that cannot be read.");
  return { strokes };
}

// Whose samples the ends are at first: of a model with labels, one that the encoder knows.
function firstGiver() {
  const through = encoder();
  return (through && giverFor(through)) ?? conditional()[0] ?? standard;
}

// Steps that one request may ask for.
function offerSteps() {
  const select = $("morph-steps");
  for (const option of [...select.options]) if (Number(option.value) > mostAtOnce) option.remove();
  if (!select.options.length) select.append(new Option(String(mostAtOnce)));
}

export function morph(app) {
  const giver = firstGiver();
  const labelOf = (index) => giver.labels[Math.min(index, giver.labels.length - 1)] ?? null;
  const ends = {
    a: { from: nameOf({ model: giver, label: labelOf(3), seed: 2 }) },
    // Another label only where there is a way to it.
    b: { from: nameOf({ model: giver, label: labelOf(encoder(giver) ? 8 : 3), seed: 4 }) },
  };
  const boxes = {};
  let frames = []; // addresses of the pictures
  let path = null; // what asked for them: {query, files, how}
  let place = 0;
  let playing = 0;

  // An end's picture: {blob, src, from}; src and from are a sample's alone.
  async function pictureOfEnd(end, signal) {
    if (!end.from) return { blob: end.file ?? (await strokesPicture(end.strokes)) };
    const { src, permalink } = await sampleNamed(end.from, signal);
    return { blob: blobOf(src), src, from: permalink };
  }

  // How to ask for the path between ends: by seeds where they differ in nothing else.
  function plan(between, pictures) {
    const common = { steps: $("morph-steps").value, method: $("morph-method").value };
    const [a, b] = between.map((end) => end.from && partsOfName(end.from));
    const alike = a && b && a.model === b.model && a.label === b.label && a.truncation === b.truncation;
    if (alike) {
      const truncation = a.truncation === 1 ? undefined : String(a.truncation);
      const query = { model: a.model.pin, label: a.label, seeds: `${a.seed},${b.seed}`, truncation };
      return { query: { ...query, ...common }, how: `through the latent space of ${a.model.name}` };
    }
    const through = encoder(...[a, b].filter(Boolean).map(({ model }) => model));
    if (!through) {
      const why = "Ends that differ in label or are pictures need a VAE that learnt from what they show.";
      throw new Problem(422, "No way between these", `${why} None is served.`);
    }
    return {
      query: { model: through.pin, ...common },
      files: pictures.map(({ blob, from }, i) => ({ name: ["start.png", "end.png"][i], blob, from })),
      how: `through the latent space of ${through.name}: both ends are encoded, and every point between is decoded`,
    };
  }

  const show = latest(async (signal) => {
    stop();
    try {
      const between = [ends.a, ends.b]; // as they are now
      const pictures = [];
      for (const end of between) pictures.push(await pictureOfEnd(end, signal));
      if (signal.aborted) return;
      pictures.forEach(({ src, blob }, index) => {
        const { img } = boxes[["a", "b"][index]];
        if (img.src.startsWith("blob:")) URL.revokeObjectURL(img.src);
        img.src = src ?? URL.createObjectURL(blob);
      });
      const planned = plan(between, pictures);
      const query = { ...planned.query, format: "json" };
      const { data } = await ask("/interpolate", { ...planned, query, signal });
      if (signal.aborted) return;
      path = planned;
      frames = data.items.map(({ image }) => pngAddress(image));
    } catch (error) {
      if (!signal.aborted) blank(); // what is shown is of other ends
      throw error;
    }
    stop(); // of the path before
    $("morph-how").textContent = `${frames.length} pictures, ${path.how}.`;
    $("morph-frames").replaceChildren(...frames.map(thumbnail));
    usable(true);
    $("morph-scrub").max = frames.length - 1;
    turnTo(Math.min(place, frames.length - 1));
  });

  // Whether there is a path to walk on.
  function usable(yes) {
    for (const id of ["morph-scrub", "morph-play", "morph-save"]) $(id).disabled = !yes;
    $("morph-blank").hidden = yes;
    $("morph-frame").hidden = !yes;
  }

  function blank() {
    stop();
    frames = [];
    $("morph-how").textContent = "";
    $("morph-frames").replaceChildren();
    usable(false);
  }

  function thumbnail(src, index) {
    const img = el("img", { class: "digit", alt: "", src });
    img.addEventListener("click", () => {
      stop();
      turnTo(index);
    });
    return img;
  }

  function turnTo(index) {
    place = index;
    $("morph-frame").src = frames[index];
    $("morph-frame").alt = `Picture ${index + 1} of ${frames.length} on the way`;
    $("morph-scrub").value = index;
    $("morph-scrub").setAttribute("aria-valuetext", `picture ${index + 1} of ${frames.length}`);
    [...$("morph-frames").children].forEach((img, i) => img.classList.toggle("now", i === index));
    if (!playing) app.save();
  }

  function stop() {
    clearInterval(playing);
    playing = 0;
    $("morph-play").textContent = "Play";
    $("morph-play").setAttribute("aria-pressed", "false");
  }

  // There and back again.
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
    const query = { ...path.query, layout: "animation", frame_ms: String(FRAME_MS), scale: String(SCALE) };
    const { data } = await ask("/interpolate", { ...path, query, as: "blob", signal });
    if (signal.aborted) return;
    const link = el("a", { href: URL.createObjectURL(data), download: "morph.png" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    announce("Saved as morph.png");
  });

  // A file becomes an end once it is known for a picture.
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
    app.save();
    show();
  }

  // The controls of an end say what it is.
  function refresh(key) {
    const { label, seed, box } = boxes[key];
    const end = ends[key];
    if (!end.from) {
      box.querySelector("h3").textContent = `${box.dataset.title}: ${end.file ? "a file" : "a drawing"}`;
      return;
    }
    const parts = partsOfName(end.from);
    box.querySelector("h3").textContent = `${box.dataset.title}: ${parts.label ?? parts.model.name}, style ${parts.seed}`;
    label.replaceChildren(...parts.model.labels.map((name) => new Option(name)));
    label.parentElement.hidden = !parts.model.labels.length;
    label.value = parts.label;
    seed.value = parts.seed;
  }

  function buildEnd(key, title) {
    const box = $(`morph-${key}`);
    box.dataset.title = title;
    const img = el("img", { class: "digit", alt: "", width: 112, height: 112 });
    const label = el("select");
    const seed = el("input", { type: "number", min: 0, max: MAX_SEED, step: 1 });
    const other = el("button", { type: "button" }, "Other style");
    const drawing = el("button", { type: "button" }, "My drawing");
    const file = el("input", { type: "file", class: "visually-hidden", accept: "image/png,image/jpeg,image/webp" });
    boxes[key] = { box, img, label, seed };
    // What a control changes is changed in the sample that the end is, or else in a first one.
    const parts = () => (ends[key].from ? partsOfName(ends[key].from) : { model: giver, label: labelOf(0), seed: 1 });
    const take = (part) => change(key, { from: nameOf({ ...parts(), ...part }) });
    label.addEventListener("change", () => take({ label: label.value }));
    seed.addEventListener("change", () => take({ seed: (parseSeeds(seed.value, 1) ?? [1])[0] }));
    other.addEventListener("click", () => take({ seed: randomSeed() }));
    drawing.addEventListener("click", () => {
      const picture = app.view("draw").picture?.();
      if (picture) change(key, picture);
      else announce("There is nothing on the pad: draw something first");
    });
    file.addEventListener("change", () => {
      if (file.files.length) readers[key](file.files[0]);
      file.value = "";
    });
    box.append(
      el("h3", {}, title),
      img,
      el("div", { class: "controls" }, el("label", {}, "Label ", label), el("label", {}, "Style ", seed), other),
      el("div", { class: "controls" }, drawing, el("label", { class: "button" }, "Picture file", file)),
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
      const asked = {}; // all of it is looked at before any of it counts
      for (const key of ["a", "b"]) {
        const end = link.take(key);
        if (end) asked[key] = endOf(end);
      }
      Object.assign(ends, asked);
      for (const key of ["a", "b"]) refresh(key);
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
    // A picture dropped here is the end.
    dropped: (file) => readers.b(file),
  };
}
