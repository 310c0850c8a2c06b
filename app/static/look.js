// The first view: pictures of one label, drawn just now by every model that knows it.

import { request } from "./api.js";
import { detail } from "./detail.js";
import { $, choices, dataSet, el, pngAddress, randomSeed, slider } from "./dom.js";
import { latest } from "./latest.js";
import { conditional, defaultModel, fillModels, inkOf, maxImages, modelOf, models, partsOfName, samples } from "./models.js";
import { bindPause, mayMove } from "./motion.js";
import { parseSeeds, seedsFrom, writeSeeds } from "./seeds.js";
import { TYPICAL, truncationIn } from "./state.js";
import { tries } from "./tries.js";
import { isDigit, plural } from "./words.js";

const COUNTS = [24, 12, 8, 6]; // pictures of each model, by how many models there are
const FEW = 4; // of each, if there are more models
const MAX_SEEDS = 600; // in a link
const STEPS = 10; // frames of a picture's way to another style
const FRAME_MS = 70;
const REST_MS = 900; // between two ways
const WAYS = 80; // then the wall rests until something is done: a forgotten tab costs nothing

// What the first screen says of the pictures.
function claimOf(label, shown) {
  const word = isDigit(label) ? plural(label) : null;
  const photos = shown.some(({ image_shape: [channels] }) => channels > 1);
  const drawn = shown.some(({ image_shape: [channels] }) => channels === 1);
  const how = [drawn && "written", photos && "photographed"].filter(Boolean).join(" or ");
  return word ? `None of these ${word} was ever ${how}.` : "None of these existed a second ago.";
}

export function look(app) {
  let wished = null; // the label that was chosen last; a model may lack it
  let only = null; // the one model that is shown; null = all that know the label
  let label = null;
  let seeds = [];
  let truncation = 1;
  let panels = []; // {model, tiles: [{img, seed}], caption}
  let ways = WAYS;
  let walking = null; // AbortController of the living wall
  let timer = 0;
  let tried = false; // the things to try are there

  const labels = () => (only ? only.labels : [...new Set(conditional().flatMap((model) => model.labels))]);
  const shown = () => {
    if (only) return [only];
    const knowing = conditional().filter((model) => model.labels.includes(label));
    knowing.sort((a, b) => (b === defaultModel) - (a === defaultModel)); // the default one first
    return knowing.length ? knowing : [defaultModel];
  };
  const countOf = (number) => COUNTS[number - 1] ?? FEW;

  const enlarged = detail({ changed: () => app.save(), go: app.go });
  const moments = tries();

  const fill = latest(async (signal) => {
    const images = panels.flatMap(({ tiles }) => tiles.map(({ img }) => img));
    for (const img of images) img.classList.toggle("loading", !img.src);
    try {
      await Promise.all(
        panels.map(async ({ model, tiles, caption }, index) => {
          const wanted = tiles.map(({ seed }) => seed);
          const generated = await samples(model, labelFor(model), wanted, truncation, { signal, shown: index === 0 });
          if (signal.aborted) return;
          tiles.forEach((tile, place) => paint(tile, generated[place].src));
          const ms = generated[0].exchange.timing?.compute;
          caption.textContent = `${wanted.length} pictures${ms ? ` in ${ms.toFixed(1)} ms` : ""}`;
        }),
      );
    } finally {
      for (const img of images) img.classList.remove("loading"); // after a failure too
    }
    if (signal.aborted) return;
    live();
    if (!tried) moments.open(); // after the pictures: these are what one looks at first
    tried = true;
  });

  const labelFor = (model) => (model.labels.includes(label) ? label : null);

  function paint({ img, seed }, src) {
    img.src = src;
    img.alt = `${label ?? "Sample"}, seed ${seed}`;
    img.classList.remove("loading");
  }

  function panelOf(model) {
    const tiles = seeds.map((seed) => ({ seed, img: el("img", { class: `digit ${inkOf(model)} loading`, alt: "", width: 56, height: 56 }) }));
    const buttons = tiles.map((tile) => {
      const button = el("button", { type: "button", class: "tile" }, tile.img);
      button.addEventListener("click", () => {
        enlarged.open({ model, label: labelFor(model), seed: tile.seed, truncation });
        app.save();
      });
      return button;
    });
    const caption = el("span", { class: "spent" });
    const { training_images: count, name } = model.data;
    const learned = count ? `, learned from ${count.toLocaleString("en")} pictures` : "";
    const source = count && name ? [" of ", dataSet(name)] : [];
    const [, height, width] = model.image_shape;
    const text = el("figcaption", {}, el("b", {}, model.name), learned, ...source, ` · ${width} × ${height} pixels · `, caption);
    const wall = el("div", { class: "wall", role: "group", "aria-label": `Pictures of ${model.name}` }, ...buttons);
    return { model, tiles, caption, figure: el("figure", { class: "panel" }, wall, text) };
  }

  function build() {
    const models = shown();
    const known = labels();
    label = [label, wished].find((one) => known.includes(one)) ?? known[0] ?? null;
    panels = models.map(panelOf);
    $("look-stage").className = `stage of-${Math.min(3, models.length)}`;
    $("look-panels").replaceChildren(...panels.map(({ figure }) => figure));
    $("look-claim").textContent = claimOf(label, models);
    $("look-just").textContent = models.length > 1 ? "Networks drew them just now." : "A network drew them just now.";
    $("look-label").textContent = label ?? "";
    $("look-label").classList.toggle("word", (label ?? "").length > 2);
    $("look-more").textContent = `${seeds.length} others`;
    $("look-choose").textContent = known.length ? `Choose ${known.every(isDigit) ? "another digit" : "another label"}.` : `${models[0].name} takes no label: what it draws, nobody can choose.`;
    $("look-typical").hidden = !models.some((model) => model.truncation);
    truncationSlider.disabled = !models.some((model) => model.truncation);
    buildLabels();
  }

  function buildLabels() {
    const box = $("look-labels");
    const known = labels();
    if ([...box.children].map(({ textContent }) => textContent).join("\n") !== known.join("\n")) {
      box.replaceChildren(...choices(known, (name) => restart({ label: name })));
      box.classList.toggle("words", known.some((name) => name.length > 2));
    }
    for (const button of box.children) button.setAttribute("aria-pressed", String(button.textContent === label));
  }

  function restart(change = {}) {
    if (change.label !== undefined) wished = label = change.label;
    if (change.only !== undefined) only = change.only;
    if (!labels().includes(label)) label = labels().includes(wished) ? wished : (labels()[0] ?? null);
    seeds = seedsFrom(randomSeed(), countOf(shown().length));
    build();
    app.save();
    fill();
  }

  // The wall lives: one picture after another walks to a style that it has never had.
  function live() {
    rest();
    ways = WAYS;
    walking = new AbortController();
    timer = setTimeout(walk, REST_MS, walking.signal);
  }

  function rest() {
    clearTimeout(timer);
    walking?.abort();
  }

  const onScreen = () => $("look-panels").getBoundingClientRect().bottom > 0;

  async function walk(signal) {
    if (mayMove() && onScreen() && ways-- > 0) {
      const { model, tiles } = panels[Math.floor(Math.random() * panels.length)];
      const tile = tiles[Math.floor(Math.random() * tiles.length)];
      const to = randomSeed();
      const query = {
        model: model.pin,
        label: labelFor(model),
        seeds: `${tile.seed},${to}`,
        steps: String(Math.min(STEPS, maxImages)),
        truncation: model.truncation && truncation !== 1 ? String(truncation) : undefined,
        format: "json",
      };
      try {
        const { data } = await request("/interpolate", { query, shown: false, patient: false, signal });
        tile.seed = to;
        for (const { image } of data.items) {
          await new Promise((resolve) => (timer = setTimeout(resolve, FRAME_MS)));
          if (signal.aborted) return;
          paint(tile, pngAddress(image));
        }
        app.save();
      } catch {
        return; // nobody asked for it: the pictures stay as they are
      }
    }
    if (!signal.aborted) timer = setTimeout(walk, REST_MS, signal);
  }

  const truncationSlider = slider("look-truncation", (value) => {
    truncation = value;
    app.save();
    fill();
  });
  $("look-model").addEventListener("change", ({ target }) => restart({ only: target.value ? modelOf(target.value) : null }));
  $("look-more").addEventListener("click", () => restart());
  bindPause();

  return {
    open(link) {
      const linked = link.take("model");
      const one = linked ? modelOf(linked) : null;
      const pickOf = link.take("pick_model");
      const picked = pickOf ? modelOf(pickOf) : one;
      const seed = link.take("pick", (text) => parseSeeds(text, 1));
      // As in the other views, a link to a picture that cannot be is an error.
      if (seed && picked) partsOfName(`${picked.pin},${link.take("label") ?? ""},1,1`);
      only = one;
      const known = labels();
      const first = known[Math.min(7, known.length - 1)] ?? null;
      wished = label = link.take("label", (text) => (known.includes(text) ? text : null)) ?? wished ?? first;
      fillModels($("look-model"), models, null);
      const every = conditional().length > 1 ? "all that know the label" : (conditional()[0] ?? defaultModel).name;
      if (conditional().length !== 1) $("look-model").prepend(new Option(every, ""));
      $("look-model").value = only?.pin ?? (conditional().length === 1 ? conditional()[0].pin : "");
      seeds = link.take("seeds", (text) => parseSeeds(text, MAX_SEEDS)) ?? seedsFrom(randomSeed(), countOf(shown().length));
      truncationSlider.value = truncation = link.take("truncation", truncationIn) ?? TYPICAL;
      if (!seed) enlarged.close();
      build();
      fill();
      if (seed) {
        const model = picked ?? shown()[0];
        const pickedTruncation = link.take("pick_truncation", truncationIn) ?? truncation;
        enlarged.open({ model, label: labelFor(model), seed: seed[0], truncation: pickedTruncation });
      }
      app.save();
    },
    close() {
      fill.stop();
      rest();
      enlarged.close();
      moments.close();
      tried = false;
    },
    params() {
      const picked = enlarged.state();
      return {
        model: only?.pin,
        label: picked?.label ?? label ?? undefined,
        seeds: writeSeeds(panels[0]?.tiles.map(({ seed }) => seed) ?? seeds),
        truncation: truncation === TYPICAL ? undefined : String(truncation),
        pick: picked ? String(picked.seed) : undefined,
        // Of the enlarged image, if it differs from the others'.
        pick_truncation: picked && picked.truncation !== truncation ? String(picked.truncation) : undefined,
        pick_model: only ? undefined : picked?.model.pin, // the wall behind it has those of all
      };
    },
  };
}
