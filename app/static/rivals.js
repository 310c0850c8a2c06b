// The two rivals of a GAN: pictures of the forger, the visitor as the detective, the film of a training.

import { request } from "./api.js";
import { $, el, randomSeed } from "./dom.js";
import { filmOf, player } from "./film.js";
import { latest } from "./latest.js";
import { inkOf, models, samples } from "./models.js";
import { seedsFrom } from "./seeds.js";

const FORGED = 4; // pictures that show what the forger does
const SUSPECTS = 4; // real pictures that the visitor has to tell from as many forged ones
const GAP = 2; // pixels between the images of a card's picture

export function rivals() {
  const gans = models.filter(({ kind }) => kind === "gan" || kind === "cgan");
  $("how-gan").hidden = !gans.length;
  if (!gans.length) return { some: false, open() {}, close() {} };
  const model = gans.find(({ pictures }) => pictures.nearest) ?? gans[0];
  $("how-gan").classList.toggle("photos", inkOf(model) === "photo");
  const reel = player();
  const forge = (count, signal) => samples(model, null, seedsFrom(randomSeed(), count), 1, { signal, shown: false });
  const picture = (src) => el("img", { class: "digit ink", alt: "", src });

  const show = latest(async (signal) => {
    const forged = await forge(FORGED, signal);
    if (signal.aborted) return;
    $("how-fakes").replaceChildren(...forged.map(({ src }) => picture(src)));
    await Promise.all([lineUp(signal), project(signal)]);
  });

  // The film that begins earliest, of those that the served models have; else the curves of one.
  async function project(signal) {
    const load = async (address) => (await request(address, { as: "blob", signal, shown: false })).data;
    const filmed = gans.filter(({ pictures }) => pictures.film);
    const films = await Promise.all(filmed.map(async (of) => ({ of, film: await filmOf(await load(of.pictures.film)) })));
    if (signal.aborted) return;
    const [earliest] = films.filter(({ film }) => film).sort((a, b) => a.film.frames[0] - b.film.frames[0]);
    $("film").hidden = !earliest;
    $("film-none").hidden = Boolean(earliest) || !model.pictures.curves;
    if (earliest) {
      $("film-frame").className = `film-frame ${inkOf(earliest.of)}`;
      reel.show(earliest.film, earliest.of);
    } else if (model.pictures.curves) {
      const curves = await load(model.pictures.curves);
      if (signal.aborted) return;
      URL.revokeObjectURL($("film-curves").src);
      $("film-curves").src = URL.createObjectURL(curves);
      $("film-curves").hidden = false;
    }
  }

  let round = Math.floor(Math.random() * 100);
  // The visitor as the detective: which are real? Training images are on the card if their licence is
  // known, in the rows below the samples that are closest to them.
  async function lineUp(signal) {
    $("detective").hidden = !model.pictures.nearest;
    if (!model.pictures.nearest) return;
    const { data } = await request(model.pictures.nearest, { as: "blob", signal, shown: false });
    const card = await createImageBitmap(data);
    const forged = await forge(SUSPECTS, signal);
    if (signal.aborted) return;
    const [, height, width] = model.image_shape;
    const columns = Math.floor((card.width - GAP) / (width + GAP));
    const rows = Math.floor((card.height - GAP) / (height + GAP));
    const start = Math.floor(Math.random() * columns);
    const real = Array.from({ length: Math.min(SUSPECTS, columns) }, (_, i) => {
      const canvas = el("canvas", { width, height });
      const [column, row] = [(start + 3 * i) % columns, 1 + (round % (rows - 1))]; // the next eight are others
      canvas.getContext("2d").drawImage(card, GAP + column * (width + GAP), GAP + row * (height + GAP), width, height, 0, 0, width, height);
      return { src: canvas.toDataURL(), real: true };
    });
    round += 1;
    const suspects = [...real, ...forged.map(({ src }) => ({ src, real: false }))];
    suspects.sort(() => Math.random() - 0.5);
    let right = 0;
    let asked = 0;
    const tell = () => {
      const done = asked === suspects.length;
      $("detective-score").textContent = asked ? `${right} of ${asked} right.${done ? " Guessing gives half." : ""}` : "";
      $("detective-again").hidden = !done;
    };
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
        const image = picture(src);
        image.alt = `Picture ${i + 1}`;
        return el("div", { class: "suspect" }, image, el("div", { class: "choice" }, ...buttons), said);
      }),
    );
  }

  const again = latest(async (signal) => {
    await lineUp(signal);
    if (!signal.aborted) $("detective-line").querySelector("button").focus(); // the pressed one is gone
  });
  $("detective-again").addEventListener("click", () => again());

  return {
    some: true,
    open: show,
    close() {
      reel.stop();
      for (const work of [show, again]) work.stop();
    },
  };
}
