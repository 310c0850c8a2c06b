// Three things to try on the first view: a line in one hand, a point to drag, a drawing that becomes
// something else. Each moves by itself until it is touched.

import { request } from "./api.js";
import { $, blobOf, el, pngAddress, randomSeed } from "./dom.js";
import { keep, takeOver } from "./drawing.js";
import { encodedImages, groundOf, sourceFor } from "./encoded.js";
import { latest } from "./latest.js";
import { encoder, inkOf, maxImages, samples } from "./models.js";
import { loop } from "./motion.js";
import { pad, strokesImage } from "./pad.js";
import { plane } from "./plane.js";
import { planesOf } from "./planes.js";
import { TYPICAL } from "./state.js";
import { writable } from "./write.js";

const ALL = 12; // labels at most that are all shown in the hand
const TOUR = 48; // points of the loop on the map, decoded at once
const TOUR_MS = 90;
const MORPH_MS = 80;
const MORPH = 16; // frames

export function tries() {
  const parts = [line(), space(), change()].filter(Boolean);
  return {
    open: () => parts.forEach((part) => part.open()),
    close: () => parts.forEach((part) => part.close()),
  };
}

// "2026" in one hand: one seed under the labels of its characters.
function line() {
  const [model] = writable();
  $("try-write").hidden = !model;
  if (!model) return null;
  let seed = randomSeed();
  const letters = () => [...$("try-text").value].filter((letter) => model.labels.includes(letter));
  if (!letters().length) $("try-text").value = model.labels.slice(0, 4).join("");

  const show = latest(async (signal) => {
    const line = letters();
    const every = model.labels.length <= ALL ? model.labels : [];
    const needed = [...new Set([...line, ...every])];
    const of = async (label) => [label, (await samples(model, label, [seed], TYPICAL, { signal, shown: false }))[0].src];
    const written = new Map(await Promise.all(needed.map(of)));
    if (signal.aborted) return;
    const images = (labels) => labels.map((label) => el("img", { class: `digit ${inkOf(model)}`, alt: "", src: written.get(label) }));
    const none = `Type some of ${model.labels.join(" ")}.`;
    $("try-strip").replaceChildren(...(line.length ? images(line) : [none]));
    $("try-all").replaceChildren(...images(every));
    $("try-strip").setAttribute("aria-label", line.length ? `${line.join("")} with seed ${seed}` : none);
    $("try-write-more").href = `#write?text=${encodeURIComponent(line.join(""))}&seed=${seed}&truncation=${TYPICAL}`;
  });
  $("try-text").addEventListener("input", () => show());
  $("try-hand").addEventListener("click", () => {
    seed = randomSeed();
    show();
  });
  return { open: show, close: show.stop };
}

// A point on the plane that separates the labels best.
function space() {
  const model = encoder();
  $("try-space").hidden = !model;
  if (!model) return null;
  $("try-space").classList.toggle("photos", inkOf(model) === "photo");
  const names = sourceFor(model).labels;
  let z = new Array(model.latent_dim).fill(0);
  let stop = () => {};
  let ready = false;

  const map = plane($("try-plane"), {
    title: "try-space-title",
    hint: "try-space-hint",
    dots: false,
    onMove: (dx, dy) => put(map.shifted(z, dx, dy)),
    onPick: ({ mu }) => put([...mu]),
  });

  function put(point) {
    stop();
    z = point;
    map.move(z);
    decode();
  }

  function picture(src) {
    $("try-decoded").src = src;
    map.setPicture(src);
  }

  const rounded = (point) => point.map((value) => Number(value.toFixed(3)));
  const decoded = async (points, signal) => {
    const options = { query: { model: model.pin, format: "json" }, json: { z: points.map(rounded) }, signal, shown: false };
    return (await request("/decode", options)).data.items.map(({ image }) => pngAddress(image));
  };
  const decode = latest(async (signal) => {
    const [src] = await decoded([z], signal);
    if (!signal.aborted) picture(src);
  });

  const prepare = latest(async (signal) => {
    if (ready) return;
    const points = await encodedImages(model, signal);
    if (signal.aborted) return;
    const [chosen] = planesOf(z.map((_, i) => i), points, model.latent_dim);
    map.show(points, chosen, names, z);
    map.setGround(await groundOf(model, map, signal));
    const tour = map.tour(Math.min(TOUR, maxImages));
    const frames = await decoded(tour, signal);
    if (signal.aborted) return;
    ready = true;
    z = tour[0];
    const steps = frames.map((src, i) => ({ src, point: tour[i] }));
    stop = loop(steps, TOUR_MS, ({ src, point }) => {
      z = point;
      map.move(z);
      picture(src);
    });
  });

  return {
    open: prepare,
    close() {
      stop();
      ready = false;
      prepare.stop();
      decode.stop();
    },
  };
}

// What is drawn, on its way to a picture of the generator: encoded, and decoded all along the path.
function change() {
  const model = encoder();
  $("try-draw").hidden = !model;
  if (!model) return null;
  $("try-draw").classList.toggle("photos", inkOf(model) === "photo");
  const source = sourceFor(model);
  let strokes = [];
  let stop = () => {};
  const paper = pad($("try-pad"), (drawn) => {
    strokes = drawn;
    keep(strokes, "look");
    $("try-pad-hint").hidden = true;
  }, () => morph(true));

  const some = () => source.labels[Math.floor(Math.random() * source.labels.length)] ?? null;
  const sample = async (label, signal) => {
    const [{ src, permalink }] = await samples(source, label, [randomSeed()], TYPICAL, { signal, shown: false });
    return { name: "end.png", blob: blobOf(src), from: permalink };
  };

  const morph = latest(async (signal, asked) => {
    const label = some();
    const start = strokes.length ? { name: "start.png", blob: await strokesImage(strokes) } : await sample(some(), signal);
    const files = [start, await sample(label, signal)];
    const query = { model: model.pin, steps: String(Math.min(MORPH, maxImages)), format: "json" };
    const { data } = await request("/interpolate", { query, files, signal, shown: false });
    if (signal.aborted) return;
    stop();
    stop = loop(data.items.map(({ image }) => pngAddress(image)), MORPH_MS, (src) => ($("try-changed").src = src), asked);
    $("try-changed").alt = `${strokes.length ? "Your drawing" : "A picture"} on its way to ${label ?? "another"}`;
  });
  function set(given) {
    strokes = given;
    paper.set(strokes);
    $("try-pad-hint").hidden = strokes.length > 0;
  }
  $("try-other").addEventListener("click", () => morph(true));
  $("try-clear").addEventListener("click", () => {
    set([]);
    keep([], "look");
    morph.stop();
    stop();
    $("try-changed").removeAttribute("src");
    $("try-changed").alt = "";
  });
  return {
    open() {
      const drawn = takeOver("look");
      if (drawn) set(drawn);
      morph(false);
    },
    close() {
      stop();
      morph.stop();
    },
  };
}
