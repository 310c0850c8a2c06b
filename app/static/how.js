// How the networks work, in pictures of the real numbers: encoder, mean and spread, sample, decoder; and
// the two rivals, with the film of their training.

import { request } from "./api.js";
import { $, blobOf, el, pngAddress, randomSeed } from "./dom.js";
import { sourceFor } from "./encoded.js";
import { filmOf } from "./film.js";
import { latest } from "./latest.js";
import { posteriorOf } from "./latents.js";
import { encoder, maxImages, models, samples } from "./models.js";
import { strokesImage } from "./pad.js";
import { MAX_SEED, parseSeeds, seedsFrom } from "./seeds.js";

const THROWS = 8; // samples of the posterior, and of the prior
const SUSPECTS = 4; // real pictures that the visitor has to tell from as many forged ones
const GAP = 2; // pixels between the images of a card's picture
const FILM_MS = 350;
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

// Blue below 0, orange above, black at 0.
function signed(value) {
  const share = Math.min(1, Math.abs(value) / REACH);
  return (value < 0 ? [70, 140, 255] : [255, 150, 40]).map((part) => Math.round(part * share));
}
const digit = (src) => el("img", { class: "digit ink", alt: "", src });
const spread = (value) => new Array(3).fill(Math.round(255 * Math.min(1, value)));

export function how(app) {
  const vae = encoder();
  const rivals = models.filter(({ kind }) => kind === "gan" || kind === "cgan");
  $("how-vae").hidden = !vae;
  $("how-gan").hidden = !rivals.length;
  $("how-empty").hidden = Boolean(vae || rivals.length);
  const source = vae && sourceFor(vae);
  let label = source?.labels[Math.min(3, source.labels.length - 1)] ?? null;
  let seed = 1;
  let posterior = null;

  const encode = latest(async (signal) => {
    const drawn = app.view("draw").picture?.(); // what the visitor has drawn, if anything
    const own = drawn && !drawn.from;
    let blob;
    if (own) blob = drawn.file ?? (await strokesImage(drawn.strokes));
    else blob = blobOf((await samples(source, label, [seed], 1, { signal, shown: false }))[0].src);
    const files = [{ name: "picture.png", blob }];
    const { data } = await request("/encode", { query: { model: vae.pin }, files, raw: true, signal });
    if (signal.aborted) return;
    posterior = posteriorOf(data.items[0]);
    URL.revokeObjectURL($("how-input").src);
    $("how-input").src = URL.createObjectURL(blob);
    $("how-input").alt = own ? "Your picture" : `The picture that is encoded${label === null ? "" : `: ${label}`}`;
    paintNumbers($("how-mean"), posterior.mu, signed);
    paintNumbers($("how-spread"), posterior.logvar.map((value) => Math.exp(value / 2)), spread);
    const spreads = posterior.logvar.map((value) => Math.exp(value / 2));
    const [least, most] = [Math.min(...spreads), Math.max(...spreads)].map((value) => value.toFixed(2));
    $("how-sure").textContent = `Of these ${vae.latent_dim} numbers it knows the surest to ±${least}, and the least sure to ±${most}.`;
    throwDice();
  });

  const throwDice = latest(async (signal) => {
    if (!posterior) return;
    const count = Math.min(THROWS, maxImages);
    const thrown = Array.from({ length: count }, () => posterior.mu.map((mean, i) => mean + Math.exp(posterior.logvar[i] / 2) * normal()));
    const z = thrown.map((point) => point.map((value) => Number(value.toFixed(4))));
    const { data } = await request("/decode", { query: { model: vae.pin, format: "json" }, json: { z }, signal });
    const free = await samples(vae, null, seedsFrom(randomSeed(), count), 1, { signal, shown: false });
    if (signal.aborted) return;
    paintNumbers($("how-sample"), z[0], signed);
    const thrownImages = data.items.map(({ image }) => pngAddress(image));
    $("how-output").src = thrownImages[0];
    $("how-throws").replaceChildren(...thrownImages.map(digit));
    $("how-prior").replaceChildren(...free.map(({ src }) => digit(src)));
  });

  const reel = film();
  const rival = latest(async (signal) => {
    const model = rivals.find(({ pictures }) => pictures.film) ?? rivals[0];
    const forged = await samples(model, null, seedsFrom(randomSeed(), SUSPECTS), 1, { signal, shown: false });
    if (signal.aborted) return;
    $("how-fakes").replaceChildren(...forged.map(({ src }) => digit(src)));
    await lineUp(model, forged, signal);
    const { film: address, curves } = model.pictures;
    $("film").hidden = !address;
    $("film-none").hidden = Boolean(address);
    if (address) {
      const { data } = await request(address, { as: "blob", signal, shown: false });
      const found = await filmOf(data);
      if (!signal.aborted && found) reel.show(found, model);
    } else if (curves) {
      const { data } = await request(curves, { as: "blob", signal, shown: false });
      if (signal.aborted) return;
      URL.revokeObjectURL($("film-curves").src);
      $("film-curves").src = URL.createObjectURL(data);
      $("film-curves").hidden = false;
    }
  });

  // The visitor as the detective: which are real? Training images are on the card if their licence is
  // known, in the rows below the samples that are closest to them.
  async function lineUp(model, forged, signal) {
    $("detective").hidden = !model.pictures.nearest;
    if (!model.pictures.nearest) return;
    const { data } = await request(model.pictures.nearest, { as: "blob", signal, shown: false });
    const card = await createImageBitmap(data);
    if (signal.aborted) return;
    const [, height, width] = model.image_shape;
    const columns = Math.floor((card.width - GAP) / (width + GAP));
    const rows = Math.floor((card.height - GAP) / (height + GAP));
    const start = Math.floor(Math.random() * columns);
    const real = Array.from({ length: Math.min(SUSPECTS, columns) }, (_, i) => {
      const canvas = el("canvas", { width, height });
      const [column, row] = [(start + 3 * i) % columns, 1 + Math.floor(Math.random() * (rows - 1))];
      canvas.getContext("2d").drawImage(card, GAP + column * (width + GAP), GAP + row * (height + GAP), width, height, 0, 0, width, height);
      return { src: canvas.toDataURL(), real: true };
    });
    const suspects = [...real, ...forged.map(({ src }) => ({ src, real: false }))];
    suspects.sort(() => Math.random() - 0.5);
    let right = 0;
    let asked = 0;
    const tell = () => ($("detective-score").textContent = asked ? `${right} of ${asked} right.${asked === suspects.length ? " Guessing gives half." : ""}` : "");
    tell();
    $("detective-credit").textContent = `Real ones: ${model.data.name}, ${model.data.licence}.`;
    $("detective-line").replaceChildren(
      ...suspects.map(({ src, real }, i) => {
        const said = el("span", { class: "hint", role: "status" });
        const judged = (guess) => () => {
          for (const button of buttons) button.disabled = true;
          asked += 1;
          right += guess === real;
          said.textContent = `${guess === real ? "Right" : "Wrong"}: ${real ? "real" : "forged"}`;
          said.className = `hint ${guess === real ? "right" : "wrong"}`;
          tell();
        };
        const buttons = [true, false].map((guess) => {
          const button = el("button", { type: "button", "aria-label": `Picture ${i + 1} is ${guess ? "real" : "forged"}` }, guess ? "Real" : "Forged");
          button.addEventListener("click", judged(guess));
          return button;
        });
        const image = digit(src);
        image.alt = `Picture ${i + 1}`;
        return el("div", { class: "suspect" }, image, el("div", { class: "choice" }, ...buttons), said);
      }),
    );
  }

  if (vae) {
    $("how-labels").append(
      ...(source.labels.length ? source.labels : [null]).map((name) => {
        const button = el("button", { type: "button" }, name ?? "another");
        button.addEventListener("click", () => {
          label = name;
          seed = seed < MAX_SEED ? seed + 1 : 0;
          app.save();
          encode();
        });
        return button;
      }),
    );
  }
  $("how-again").addEventListener("click", () => throwDice());

  return {
    open(link) {
      label = link.take("label", (text) => (source?.labels.includes(text) ? text : null)) ?? label;
      [seed] = link.take("seed", (text) => parseSeeds(text, 1)) ?? [seed];
      app.save();
      if (vae) encode();
      if (rivals.length) rival();
    },
    close() {
      reel.stop();
      for (const work of [encode, throwDice, rival]) work.stop();
    },
    params: () => (vae ? { label: label ?? undefined, seed: String(seed) } : {}),
  };
}

// The film's player: its pictures, the losses with the moment, a slider and a button.
function film() {
  const scrub = $("film-scrub");
  let found = null;
  let playing = 0;

  function turnTo(index) {
    const { bitmap, frames } = found;
    const canvas = $("film-frame");
    const height = bitmap.height / frames.length;
    canvas.width = bitmap.width;
    canvas.height = height;
    canvas.getContext("2d").drawImage(bitmap, 0, index * height, bitmap.width, height, 0, 0, bitmap.width, height);
    const seen = `after ${frames[index].toLocaleString("en")} pictures`;
    canvas.setAttribute("aria-label", `The generator's pictures ${seen}`);
    $("film-when").textContent = seen;
    scrub.value = index;
    scrub.setAttribute("aria-valuetext", seen);
    chart(frames[index]);
  }

  function chart(now) {
    const canvas = $("film-losses");
    const density = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * density;
    canvas.height = height * density;
    const pen = canvas.getContext("2d");
    pen.scale(density, density);
    const style = getComputedStyle(canvas);
    const { images, losses, chance } = found;
    const most = Math.max(...Object.values(losses).flat());
    const last = Math.max(images.at(-1), found.frames.at(-1));
    const place = (seen, value) => [(seen / last) * width, height - 4 - (value / most) * (height - 8)];
    pen.lineWidth = 2;
    for (const [name, values] of Object.entries(losses)) {
      pen.strokeStyle = style.getPropertyValue(`--${name}`) || style.color;
      pen.beginPath();
      values.forEach((value, i) => pen.lineTo(...place(images[i], value)));
      pen.stroke();
      if (!chance?.[name]) continue;
      pen.setLineDash([2, 5]);
      pen.beginPath();
      pen.moveTo(...place(0, chance[name]));
      pen.lineTo(...place(last, chance[name]));
      pen.stroke();
      pen.setLineDash([]);
    }
    pen.strokeStyle = style.color;
    pen.beginPath();
    pen.moveTo(...place(now, 0));
    pen.lineTo(...place(now, most));
    pen.stroke();
  }

  function stop() {
    clearInterval(playing);
    playing = 0;
    $("film-play").textContent = "Play";
  }

  $("film-play").addEventListener("click", () => {
    if (playing) return stop();
    let at = Number(scrub.value) === found.frames.length - 1 ? -1 : Number(scrub.value);
    $("film-play").textContent = "Pause";
    playing = setInterval(() => {
      at += 1;
      turnTo(at);
      if (at === found.frames.length - 1) stop();
    }, FILM_MS);
  });
  scrub.addEventListener("input", () => {
    stop();
    turnTo(Number(scrub.value));
  });
  new ResizeObserver(() => found && chart(found.frames[Number(scrub.value)])).observe($("film-losses"));

  return {
    stop,
    show(given, model) {
      found = given;
      scrub.max = found.frames.length - 1;
      $("film-of").textContent = model.name;
      turnTo(found.frames.length - 1);
    },
  };
}
