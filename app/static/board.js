// The board: labels as columns, styles as rows. A row has the same seed under every label.

import { $, el, randomSeed, slider } from "./dom.js";
import { detail } from "./detail.js";
import { latest } from "./latest.js";
import { fillModels, modelOf, models, partsOfName, samples } from "./models.js";
import { MAX_SEED, parseSeeds, seedsFrom, writeSeeds } from "./seeds.js";
import { truncationIn } from "./state.js";

const ROWS = 6; // at first, and added by "Six more rows"
const MAX_ROWS = 600; // or images, for a model without labels
const MIN_COLUMN_REM = 1.7; // with many labels the board scrolls
const LETTER_REM = 0.55; // column width for each letter of the longest label
const MAX_LETTERS = 14; // a longer label ends in an ellipsis; its tooltip has all of it
const WIDTH = 10; // images in a row, for a model without labels

export function board(app) {
  const table = $("board-table");
  let model = null;
  let seeds = [];
  let truncation = 1;
  let active = [0, 0]; // row, column: the cell that Tab reaches
  let cells = []; // rows of {td, img, label, seed}

  const amount = (rows) => (model.labels.length ? rows : rows * WIDTH);

  const enlarged = detail({
    changed: () => app.save(), // the address names the enlarged image
    go: app.go,
  });

  const fill = latest(async (signal) => {
    table.setAttribute("aria-busy", "true");
    const images = cells.flat().map(({ img }) => img);
    for (const img of images) img.classList.toggle("loading", !img.src);
    const columns = model.labels.length
      ? model.labels.map((label, column) => ({ label, cells: cells.map((row) => row[column]) }))
      : cells.map((row) => ({ label: null, cells: row }));
    try {
      await Promise.all(
        columns.map(async (column, index) => {
          const wanted = column.cells.map((cell) => cell.seed);
          const options = { signal, shown: index === 0 };
          const generated = await samples(model, column.label, wanted, truncation, options);
          if (!signal.aborted) column.cells.forEach((cell, place) => paint(cell, generated[place]));
        }),
      );
    } finally {
      // After a failure too: nothing is loading then.
      table.removeAttribute("aria-busy");
      for (const img of images) img.classList.remove("loading");
    }
  });

  function paint(cell, sample) {
    cell.img.src = sample.src;
    cell.img.alt = nameOf(cell);
    cell.img.classList.remove("loading");
  }

  const nameOf = ({ label, seed }) => `${label === null ? "Sample" : label}, style ${seed}`;

  function cellOf(label, seed, row, column) {
    const img = el("img", { class: "digit loading", alt: "", width: 56, height: 56 });
    const td = el("td", { role: "gridcell", tabIndex: -1 }, img);
    td.addEventListener("click", () => enlarge(row, column));
    return { td, img, label, seed };
  }

  function build() {
    const named = model.labels.length > 0;
    const rows = named
      ? seeds.map((seed) => ({ head: seed, of: model.labels.map((label) => [label, seed]) }))
      : Array.from({ length: Math.ceil(seeds.length / WIDTH) }, (_, row) => ({
          head: seeds[row * WIDTH],
          of: seeds.slice(row * WIDTH, (row + 1) * WIDTH).map((seed) => [null, seed]),
        }));
    cells = rows.map((row, y) => row.of.map(([label, seed], x) => cellOf(label, seed, y, x)));
    const heads = model.labels.map((label) => el("th", { role: "columnheader", scope: "col", title: label }, label));
    const corner = el("th", { role: "columnheader", scope: "col", class: "row-head" }, "style");
    const head = el("thead", {}, el("tr", { role: "row" }, corner, ...heads));
    const body = el("tbody");
    for (const [y, row] of rows.entries()) {
      const name = el("th", { role: "rowheader", scope: "row", class: "row-head" }, `${row.head}`);
      body.append(el("tr", { role: "row" }, name, ...cells[y].map((cell) => cell.td)));
    }
    const hadFocus = table.contains(document.activeElement);
    table.replaceChildren(...(named ? [head, body] : [body]));
    const longest = Math.min(MAX_LETTERS, Math.max(0, ...model.labels.map((label) => label.length)));
    table.classList.toggle("words", longest > 2);
    table.style.minWidth = `${cells[0].length * Math.max(MIN_COLUMN_REM, longest * LETTER_REM)}rem`;
    focusable(Math.min(active[0], cells.length - 1), Math.min(active[1], cells[0].length - 1));
    if (hadFocus) cells[active[0]][active[1]].td.focus();
    $("board-more").disabled = seeds.length >= MAX_ROWS || seeds[seeds.length - 1] === MAX_SEED;
    truncationSlider.disabled = !model.truncation;
    $("board-lead").textContent = named
      ? "Each column is a label, each row a style: the same latent under every label, so the same " +
        "slant, stroke and size."
      : "This model is unconditional: each seed gives a sample of any class.";
    if (model.truncation) {
      $("board-lead").textContent += ` Lower truncation gives more typical ${named ? "styles" : "samples"}.`;
    }
  }

  function focusable(row, column) {
    cells[active[0]]?.[active[1]]?.td.setAttribute("tabindex", "-1");
    active = [row, column];
    cells[row][column].td.setAttribute("tabindex", "0");
  }

  function enlarge(row, column) {
    focusable(row, column);
    const { label, seed } = cells[row][column];
    enlarged.open({ model, label, seed, truncation });
    app.save();
  }

  table.addEventListener("keydown", (event) => {
    const [row, column] = active;
    const last = cells[row].length - 1;
    const moves = {
      ArrowRight: [row, Math.min(column + 1, last)],
      ArrowLeft: [row, Math.max(column - 1, 0)],
      ArrowDown: [Math.min(row + 1, cells.length - 1), column],
      ArrowUp: [Math.max(row - 1, 0), column],
      Home: event.ctrlKey ? [0, 0] : [row, 0],
      End: event.ctrlKey ? [cells.length - 1, last] : [row, last],
    };
    if (event.key === "Enter" || event.key === " ") enlarge(row, column);
    else if (event.key in moves) {
      const [y, x] = moves[event.key];
      focusable(y, Math.min(x, cells[y].length - 1));
      cells[active[0]][active[1]].td.focus();
    } else return;
    event.preventDefault();
  });

  const truncationSlider = slider("board-truncation", (value) => {
    truncation = value;
    app.save();
    fill();
  });

  function restart(fresh) {
    seeds = fresh;
    build();
    app.save();
    fill();
  }

  $("board-model").addEventListener("change", ({ target }) => {
    model = modelOf(target.value);
    restart(seedsFrom(seeds[0], amount(ROWS)));
  });
  $("board-new").addEventListener("click", () => restart(seedsFrom(randomSeed(), amount(ROWS))));
  $("board-more").addEventListener("click", () => {
    const [row, column] = [cells.length, 0];
    restart([...seeds, ...seedsFrom(seeds[seeds.length - 1] + 1, amount(ROWS))].slice(0, MAX_ROWS));
    focusable(row, column);
    cells[row][column].td.focus();
  });

  return {
    open(link) {
      const linked = modelOf(link.take("model"));
      // As in the other views, a link to a label that the model lacks is an error.
      const label = link.take("label");
      if (link.has("pick")) partsOfName(`${linked.pin},${label ?? ""},1,1`);
      model = linked;
      fillModels($("board-model"), models, model);
      seeds = link.take("seeds", (text) => parseSeeds(text, MAX_ROWS)) ?? seedsFrom(1, amount(ROWS));
      truncationSlider.value = truncation = link.take("truncation", truncationIn) ?? 1;
      const seed = link.take("pick", (text) => parseSeeds(text, 1));
      if (!seed) enlarged.close();
      build();
      fill();
      if (seed) {
        const picked = link.take("pick_truncation", truncationIn) ?? truncation;
        enlarged.open({ model, label, seed: seed[0], truncation: picked });
      }
      app.save();
    },
    close() {
      fill.stop();
      enlarged.close();
    },
    params() {
      const picked = enlarged.state();
      return {
        model: model?.pin,
        seeds: writeSeeds(seeds),
        truncation: truncation === 1 ? undefined : String(truncation),
        label: picked?.label ?? undefined,
        pick: picked ? String(picked.seed) : undefined,
        // Of the enlarged image, if it differs from the board's.
        pick_truncation: picked && picked.truncation !== truncation ? String(picked.truncation) : undefined,
      };
    },
  };
}
