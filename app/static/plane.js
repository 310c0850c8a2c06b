// A map of the latent space: a plane through it, what is decoded there, encoded images, and a point to
// drag.

import { dot, ellipseOf, meanOf } from "./algebra.js";
import { el } from "./dom.js";

const HIT_PX = 11; // radius around a mark that counts as a hit
const PIN_PX = 72; // height of the point's pin: nearer to the upper edge it hangs below
const LEAST_PX = 6; // half axes of the ring: below, the point would hide it
const DRAG_PX = 4; // a press that moves less is a click
const STEP = 0.1; // of an arrow key; five times that with Shift
const LANES_HEIGHT = 0.9; // share of the map's height for lanes, one for each label, of a single latent
// By index of the label; each has a contrast of 3:1 or more with the dark background.
const COLOURS = ["#8fb8de", "#f28e2b", "#ff7b7d", "#76d7c4", "#7ed957"].concat(
  ["#f5d547", "#d9a3e0", "#ff9da7", "#d2a679", "#c9c9c9"],
);
const NO_COLOUR = "#c9c9c9";

// frame: the element that holds the map. title, hint: ids of what names the point and says how it is
// moved. dots: whether each image has a dot. onMove(dx, dy): the user moves the point along the axes.
// onPick(point): the user picks an image.
export function plane(frame, { title, hint, dots = true, onMove, onPick }) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  const about = { "aria-labelledby": title, "aria-describedby": hint };
  const range = { "aria-valuenow": "0", "aria-valuemin": "-4", "aria-valuemax": "4" };
  const bubble = el("img", { alt: "", hidden: true, draggable: false });
  const wait = el("p", { class: "plane-wait" }, "Drawing the map…");
  const handle = el("div", { id: `${frame.id}-handle`, class: "handle", role: "slider", tabIndex: 0, hidden: true, ...about, ...range }, bubble);
  const listed = { role: "listbox", "aria-label": "Images on the map", "aria-describedby": hint, hidden: true };
  const list = el("div", { id: `${frame.id}-digits`, ...listed });
  const tip = el("div", { id: `${frame.id}-tip`, class: "tip", hidden: true }, el("img", { alt: "", width: 56, height: 56 }), el("span"));
  frame.append(canvas, wait, handle, list, tip);
  let points = [];
  let places = []; // of the points, on the plane
  const options = []; // elements of the points, for the keyboard
  let focused = null; // index of the focused option
  let axes = null;
  let centre = null;
  let lanes = false;
  let radius = 3; // half the visible side
  let at = [0, 0]; // place of the point
  let posterior = null;
  let labels = [];
  let means = []; // {label, place}: where the images of each label are on average
  let ground = null; // bitmap of what is decoded at the cells

  const project = (vector) => axes.map((axis) => dot(vector, axis) - dot(centre, axis));
  const side = () => frame.clientWidth;
  const toPx = ([x, y]) => [((x / radius + 1) / 2) * side(), ((1 - y / radius) / 2) * side()];
  const fromPx = ([x, y]) => [((2 * x) / side() - 1) * radius, (1 - (2 * y) / side()) * radius];

  function paint() {
    const size = side();
    if (!size || !axes) return;
    const density = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.round(size * density);
    const pen = canvas.getContext("2d");
    pen.scale(density, density);
    if (ground) {
      pen.globalAlpha = 0.5;
      pen.drawImage(ground, 0, 0, size, size);
      pen.globalAlpha = 1;
    }
    const colour = (label) => COLOURS[labels.indexOf(label) % COLOURS.length] ?? NO_COLOUR;
    for (const [i, point] of dots ? points.entries() : []) {
      pen.fillStyle = colour(point.label);
      pen.beginPath();
      pen.arc(...toPx(places[i]), 2.5, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.font = `700 ${Math.max(15, size / 26)}px system-ui, sans-serif`;
    [pen.textAlign, pen.textBaseline] = ["center", "middle"];
    pen.lineWidth = 4;
    pen.strokeStyle = "#0b0c0d";
    for (const { label, place } of means) {
      pen.fillStyle = colour(label);
      pen.strokeText(label, ...toPx(place));
      pen.fillText(label, ...toPx(place));
    }
    if (posterior && posterior.logvar[0] !== -Infinity) drawPosterior(pen); // a point has no spread
    [handle.hidden, wait.hidden] = [false, true];
    placeHandle();
    if (focused !== null) placeOption();
  }

  // One standard deviation around the mean: a ring, for a single latent a band.
  function drawPosterior(pen) {
    const { half, angle } = ellipseOf(posterior.logvar.map(Math.exp), axes);
    const [wide, high] = half.map((size) => Math.max(LEAST_PX, (size * side()) / (2 * radius)));
    const [x, y] = toPx(project(posterior.mu));
    pen.beginPath();
    if (lanes) pen.rect(x - wide, 2, 2 * wide, side() - 4);
    else pen.ellipse(x, y, wide, high, -angle, 0, 2 * Math.PI);
    for (const [colour, width] of [["#000", 6], ["#ff9a3c", 3]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.stroke();
    }
  }

  function placeHandle() {
    const [x, y] = toPx(at).map((value) => Math.max(0, Math.min(side(), value)));
    handle.style.left = `${x}px`;
    handle.style.top = `${y}px`;
    handle.classList.toggle("below", y < PIN_PX);
    handle.setAttribute("aria-valuenow", at[0].toFixed(2));
    const up = lanes ? "" : `, ${at[1].toFixed(1)} up`;
    handle.setAttribute("aria-valuetext", `${at[0].toFixed(1)} across${up}`);
  }

  const offset = ({ clientX, clientY }, { left, top } = frame.getBoundingClientRect()) => [clientX - left, clientY - top];

  function nearest([x, y]) {
    let best = null;
    let least = HIT_PX;
    places.forEach((place, i) => {
      const [px, py] = toPx(place);
      const distance = Math.hypot(px - x, py - y);
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }

  // The tooltip of the image under the pointer, else of the focused one.
  function showTip(index) {
    index ??= focused;
    tip.hidden = index === null;
    if (index === null) return;
    const [x, y] = toPx(places[index]);
    tip.firstElementChild.src = points[index].src;
    tip.lastElementChild.textContent = `${points[index].label ?? "sample"}, ${points[index].seed}`;
    tip.style.left = `${Math.max(0, Math.min(x + 12, side() - 100))}px`;
    tip.style.top = `${Math.max(0, Math.min(y - 80, side() - 90))}px`;
  }

  // The first pointer counts; others are ignored.
  let press = null; // {pointer, start, point, dragging}
  frame.addEventListener("pointerdown", (event) => {
    if (event.button || !axes || press) return;
    const start = offset(event);
    const index = event.target === handle || !dots ? null : nearest(start);
    const point = index === null ? null : points[index];
    // The pin is held where it was touched: its point is elsewhere.
    const hold = event.target === handle ? toPx(at).map((value, i) => value - start[i]) : [0, 0];
    press = { pointer: event.pointerId, start, point, hold, dragging: false };
    frame.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    event.preventDefault();
    if (!press.point && event.target !== handle) drag(start);
  });
  frame.addEventListener("pointermove", (event) => {
    const here = offset(event);
    if (!press) {
      if (dots) showTip(nearest(here));
      return;
    }
    if (event.pointerId !== press.pointer) return;
    const far = Math.hypot(here[0] - press.start[0], here[1] - press.start[1]) > DRAG_PX;
    if (press.dragging || far) drag(here);
  });
  frame.addEventListener("pointerup", (event) => {
    if (event.pointerId !== press?.pointer) return;
    const { point, dragging } = press;
    press = null;
    if (point && !dragging) onPick(point);
  });
  // The system took the pointer away: the point stays, and nothing is picked.
  for (const end of ["pointercancel", "lostpointercapture"]) {
    frame.addEventListener(end, (event) => {
      if (event.pointerId === press?.pointer) press = null;
    });
  }
  frame.addEventListener("pointerleave", () => showTip(null));

  function drag(px) {
    press.dragging = true;
    showTip(null);
    const limit = (value) => Math.max(-radius, Math.min(radius, value));
    const [x, y] = fromPx(px.map((value, i) => value + press.hold[i])).map(limit);
    onMove(x - at[0], y - at[1]);
  }

  handle.addEventListener("keydown", (event) => {
    const size = event.shiftKey ? 5 * STEP : STEP;
    const steps = {
      ArrowRight: [size, 0],
      ArrowLeft: [-size, 0],
      ArrowUp: lanes ? [size, 0] : [0, size],
      ArrowDown: lanes ? [-size, 0] : [0, -size],
    };
    if (!(event.key in steps) || !axes) return;
    event.preventDefault();
    onMove(...steps[event.key]);
  });

  // The images for the keyboard: a list over the map with one item in the tab order. Items are only
  // ever added.
  function fillList() {
    for (const [index, point] of points.entries()) {
      if (index < options.length) continue;
      const named = { "aria-label": `${point.label ?? "sample"}, seed ${point.seed}`, "aria-selected": "false" };
      const option = el("div", { role: "option", tabIndex: index ? -1 : 0, class: "plane-digit", ...named });
      options.push(option);
      list.append(option);
    }
    list.hidden = !options.length;
  }

  function placeOption() {
    const [x, y] = toPx(places[focused]);
    options[focused].style.left = `${x}px`;
    options[focused].style.top = `${y}px`;
    options[focused].scrollIntoView({ block: "nearest" });
    showTip(null);
  }

  // The nearest image in a direction, within 45 degrees of it.
  function towards(from, [dx, dy]) {
    let best = null;
    let least = Infinity;
    places.forEach(([x, y], i) => {
      const [ox, oy] = [x - places[from][0], y - places[from][1]];
      const along = ox * dx + oy * dy;
      const distance = Math.hypot(ox, oy);
      if (along > 0 && 2 * along ** 2 >= distance ** 2 && distance < least) {
        [best, least] = [i, distance];
      }
    });
    return best;
  }

  // The next image whose label starts with a letter, wrapping around.
  function labelled(from, letter) {
    for (let step = 1; step <= points.length; step++) {
      const index = (from + step) % points.length;
      if (points[index].label?.toLowerCase().startsWith(letter.toLowerCase())) return index;
    }
    return null;
  }

  const DIRECTIONS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  function goal(event, from) {
    const last = points.length - 1;
    if (event.key in DIRECTIONS) return towards(from, DIRECTIONS[event.key]);
    const listed = { Home: 0, End: last, PageDown: Math.min(from + 1, last), PageUp: Math.max(from - 1, 0) };
    if (event.key in listed) return listed[event.key];
    return event.key.length === 1 ? labelled(from, event.key) : undefined;
  }

  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || focused === null) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      onPick(points[focused]);
      return;
    }
    const index = goal(event, focused);
    if (index === undefined) return;
    event.preventDefault();
    options[index]?.focus({ preventScroll: true });
  });
  list.addEventListener("focusin", ({ target }) => {
    for (const option of options) option.tabIndex = option === target ? 0 : -1;
    focused = options.indexOf(target);
    placeOption();
  });
  list.addEventListener("focusout", () => {
    focused = null;
    showTip(null);
  });

  new ResizeObserver(paint).observe(frame);

  return {
    // points: of `encodedImages`; names: all labels, which determine the colours.
    show(given, chosen, names, z) {
      points = given;
      labels = names;
      lanes = chosen.lanes ?? false;
      axes = chosen.axes(points);
      centre = chosen.centre(points);
      places = points.map(({ mu }) => project(mu));
      means = labels.flatMap((label) => {
        const own = places.filter((_, i) => points[i].label === label);
        return own.length ? [{ label, place: meanOf(own) }] : [];
      });
      const reach = places.flat().map(Math.abs).sort((a, b) => a - b);
      radius = Math.max(2.5, 1.08 * (reach[Math.floor(0.995 * reach.length)] ?? 0));
      if (lanes) {
        const rows = Math.max(1, labels.length);
        const row = (label) => Math.max(0, labels.indexOf(label));
        places.forEach((place, i) => {
          place[1] = LANES_HEIGHT * radius * (1 - (2 * row(points[i].label) + 1) / rows);
        });
        for (const mean of means) mean.place[1] = LANES_HEIGHT * radius * (1 - (2 * row(mean.label) + 1) / rows);
      }
      handle.setAttribute("aria-valuemin", (-radius).toFixed(2));
      handle.setAttribute("aria-valuemax", radius.toFixed(2));
      if (dots) fillList();
      this.move(z);
      paint();
    },
    // Wait for the points of another space.
    clear() {
      [axes, ground, points, means, posterior] = [null, null, [], [], null];
      for (const option of options.splice(0)) option.remove();
      [handle.hidden, wait.hidden, list.hidden, canvas.width] = [true, false, true, 0];
    },
    // Latents at the middle of `side` x `side` cells of the map, rows from the top.
    cells(side) {
      const at = (index) => ((2 * index + 1) / side - 1) * radius;
      const cell = (x, y) => centre.map((value, i) => value + x * axes[0][i] + y * (axes[1][i] ?? 0));
      return Array.from({ length: side * side }, (_, i) => cell(at(i % side), -at(Math.floor(i / side))));
    },
    // Latents on a loop through the map, `count` of them.
    tour(count) {
      const turn = (index) => (2 * Math.PI * index) / count;
      const [a, b] = [0.62 * radius, 0.5 * radius];
      const on = (t) => centre.map((value, i) => value + a * Math.cos(t) * axes[0][i] + b * Math.sin(2 * t) * (axes[1][i] ?? 0));
      return Array.from({ length: count }, (_, index) => on(turn(index)));
    },
    // What is decoded at the cells, as one bitmap.
    setGround(bitmap) {
      ground = bitmap;
      paint();
    },
    // The picture at the point, shown in the handle.
    setPicture(src) {
      bubble.src = src;
      bubble.hidden = !src;
    },
    // Mark the image on the pad as selected.
    mark(is) {
      for (const [i, option] of options.entries()) option.ariaSelected = String(is(points[i]));
    },
    // Move the point to z.
    move(z) {
      if (!axes) return;
      at = project(z);
      placeHandle();
    },
    // Draw a posterior; null = remove it.
    setPosterior(given) {
      posterior = given;
      paint();
    },
    // z moved by (dx, dy) along the axes.
    shifted: (z, dx, dy) => z.map((value, i) => value + dx * axes[0][i] + dy * axes[1][i]),
  };
}
