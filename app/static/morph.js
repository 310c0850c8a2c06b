// From one picture to another: between seeds of one label in the generator's own latent space,
// between anything else in the VAE's.

import { Problem, ask } from "./api.js";
import { $, announce, blobOf, el, pngAddress, randomSeed } from "./dom.js";
import { latest } from "./latest.js";
import { conditional, encoder, nameOf, partsOfName, sampleNamed, standard } from "./models.js";
import { packStrokes, strokesPicture, unpackStrokes } from "./pad.js";
import { MAX_SEED, parseSeeds } from "./seeds.js";

const FRAME_MS = 80;
const SCALE = 8; // of the saved animation
const DRAWN = "strokes:"; // before a drawing in an address

// One end: {from: a sample's name}, {strokes} or {file}.
const textOf = ({ from, strokes }) => from ?? (strokes && packStrokes(strokes) && DRAWN + packStrokes(strokes));
const endOf = (text) =>
  text.startsWith(DRAWN) ? { strokes: unpackStrokes(text.slice(DRAWN.length)) } : { from: text };

export function morph(app) {
  const giver = conditional()[0] ?? standard;
  const labelOf = (index) => giver.labels[Math.min(index, giver.labels.length - 1)] ?? null;
  const ends = {
    a: { from: nameOf({ model: giver, label: labelOf(3), seed: 2 }) },
    b: { from: nameOf({ model: giver, label: labelOf(8), seed: 4 }) },
  };
  const boxes = {};
  let frames = []; // addresses of the pictures
  let place = 0;
  let playing = 0;
  let path = null; // what asks for it: {query, files, how}

  // An end's picture: {blob, address, from}
  async function pictureOfEnd(end, signal) {
    if (end.from) {
      const { src, permalink } = await sampleNamed(end.from, signal);
      return { blob: blobOf(src), address: src, from: permalink };
    }
    const blob = end.file ?? (await strokesPicture(end.strokes));
    return { blob, address: URL.createObjectURL(blob) };
  }

  // How to ask for the path: by seeds where the ends differ in nothing else.
  function plan(pictures) {
    const common = { steps: $("morph-steps").value, method: $("morph-method").value };
    const [a, b] = [ends.a, ends.b].map((end) => end.from && partsOfName(end.from));
    const alike = a && b && a.model === b.model && a.label === b.label && a.truncation === b.truncation;
    if (alike) {
      const truncation = a.truncation === 1 ? undefined : String(a.truncation);
      const query = { model: a.model.pin, label: a.label, seeds: `${a.seed},${b.seed}`, truncation };
      return { query: { ...query, ...common }, how: `through the latent space of ${a.model.name}` };
    }
    const through = encoder();
    if (!through) throw new Problem(422, "No way between these", "Ends that differ in label or are pictures need a VAE.");
    return {
      query: { model: through.pin, ...common },
      files: pictures.map(({ blob, from }, i) => ({ name: ["start.png", "end.png"][i], blob, from })),
      how: `through the latent space of ${through.name}: both ends are encoded, and every point between is decoded`,
    };
  }

  const show = latest(async (signal) => {
    stop();
    const pictures = [];
    for (const [key, box] of Object.entries(boxes)) {
      const picture = await pictureOfEnd(ends[key], signal);
      if (box.img.src.startsWith("blob:")) URL.revokeObjectURL(box.img.src);
      box.img.src = picture.address;
      pictures.push(picture);
    }
    path = await plan(pictures);
    const query = { ...path.query, format: "json" };
    const { data } = await ask("/interpolate", { ...path, query, signal });
    if (signal.aborted) return;
    frames = data.items.map(({ image }) => pngAddress(image));
    $("morph-how").textContent = `${frames.length} pictures, ${path.how}.`;
    $("morph-frames").replaceChildren(...frames.map(thumbnail));
    const scrub = $("morph-scrub");
    scrub.max = frames.length - 1;
    scrub.disabled = $("morph-play").disabled = $("morph-save").disabled = false;
    $("morph-blank").hidden = true;
    $("morph-frame").hidden = false;
    turnTo(Math.min(place, frames.length - 1));
  });

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
    const link = el("a", { href: URL.createObjectURL(data), download: "morph.png" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    announce("Saved as morph.png");
  });

  function change(key, end) {
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
      if (file.files.length) change(key, { file: file.files[0] });
      file.value = "";
    });
    box.append(
      el("h3", {}, title),
      img,
      el("div", { class: "controls" }, el("label", {}, "Label ", label), el("label", {}, "Style ", seed), other),
      el("div", { class: "controls" }, drawing, el("label", { class: "button" }, "Picture file", file)),
    );
  }
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
    open(params) {
      for (const key of ["a", "b"]) {
        if (params.get(key)) ends[key] = endOf(params.get(key));
        refresh(key);
      }
      for (const name of ["steps", "method"]) {
        const select = $(`morph-${name}`);
        if ([...select.options].some(({ value }) => value === params.get(name))) select.value = params.get(name);
      }
      [place] = parseSeeds(params.get("at") ?? "", 1) ?? [place];
      app.save();
      show();
    },
    close() {
      stop();
      show.stop();
      save.stop();
    },
    params: () => ({
      a: textOf(ends.a),
      b: textOf(ends.b),
      steps: $("morph-steps").value,
      method: $("morph-method").value,
      at: String(place),
    }),
    // A picture dropped here is the end.
    dropped: (file) => change("b", { file }),
  };
}
