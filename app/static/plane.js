// A plane through the latent space: encoded digits on it, and a point to drag.

import { dot, meanOf, principal, unit } from "./algebra.js";
import { $ } from "./dom.js";

const NEAR_PX = 11; // a digit is hit from so far away
const MOVED_PX = 4; // a press that moves less is a click
const STEP = 0.1; // of an arrow key; five times as much with Shift
// By label's index; each has 3:1 against the map's dark ground.
const COLOURS = ["#8fb8de", "#f28e2b", "#ff7b7d", "#76d7c4", "#7ed957"].concat(
  ["#f5d547", "#d9a3e0", "#ff9da7", "#d2a679", "#c9c9c9"],
);

// The planes that can be chosen: {id, name, axes: (points) => [u, v]}.
export function planesOf(order, points, size) {
  const planes = [];
  const labels = new Set(points.map((point) => point.label));
  if (size > 2 && labels.size > 2) {
    planes.push({
      id: "labels",
      name: "where the labels part most",
      axes: (all) => {
        const of = (label) => all.filter((point) => point.label === label).map(({ mu }) => mu);
        return principal([...labels].map((label) => meanOf(of(label))));
      },
    });
  }
  if (size > 2) {
    const name = "where the digits differ most (PCA)";
    planes.push({ id: "pca", name, axes: (all) => principal(all.map(({ mu }) => mu)) });
  }
  for (let i = 0; i + 1 < Math.min(order.length, 12); i += 2) {
    const [a, b] = [order[i], order[i + 1]];
    const axes = () => [unit(size, a), unit(size, b)];
    planes.push({ id: `${a}-${b}`, name: `latents ${a} and ${b}`, axes });
  }
  return planes;
}

// moved(dx, dy): the point is to move by so much along the axes. picked(point): a digit is chosen.
export function plane({ moved, picked }) {
  const frame = $("plane");
  const canvas = $("plane-map");
  const handle = $("plane-handle");
  const tip = $("plane-tip");
  let points = [];
  let places = []; // of the points, in the plane
  let axes = null;
  let centre = null;
  let radius = 3; // half the side that is shown
  let at = [0, 0]; // the point's place
  let posterior = null;
  let labels = [];

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
    pen.font = "600 13px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.strokeStyle = "#2b2e33";
    pen.beginPath();
    const [ox, oy] = toPx([0, 0]);
    pen.moveTo(ox, 0);
    pen.lineTo(ox, size);
    pen.moveTo(0, oy);
    pen.lineTo(size, oy);
    pen.stroke();
    points.forEach((point, i) => {
      const index = labels.indexOf(point.label);
      pen.fillStyle = index < 0 ? "#c9c9c9" : COLOURS[index % COLOURS.length];
      pen.fillText(point.label?.length <= 2 ? point.label : "●", ...toPx(places[i]));
    });
    if (posterior) ellipse(pen);
    placeHandle();
  }

  // One standard deviation around the mean, as the plane sees it: of the covariance's two by two
  // entries the ellipse's half axes and turn.
  function ellipse(pen) {
    const variance = posterior.logvar.map(Math.exp);
    const entry = (a, b) => variance.reduce((sum, v, i) => sum + v * axes[a][i] * axes[b][i], 0);
    const [a, b, c] = [entry(0, 0), entry(0, 1), entry(1, 1)];
    const middle = (a + c) / 2;
    const reach = Math.hypot((a - c) / 2, b);
    const scale = side() / (2 * radius);
    const half = [middle + reach, Math.max(0, middle - reach)].map((v) => Math.sqrt(v) * scale);
    pen.strokeStyle = "#ffffff";
    pen.lineWidth = 1.5;
    pen.setLineDash([4, 3]);
    pen.beginPath();
    pen.ellipse(...toPx(project(posterior.mu)), ...half, -Math.atan2(2 * b, a - c) / 2, 0, 2 * Math.PI);
    pen.stroke();
    pen.setLineDash([]);
    pen.lineWidth = 1;
  }

  function placeHandle() {
    const [x, y] = toPx(at).map((value) => Math.max(0, Math.min(side(), value)));
    handle.style.left = `${x}px`;
    handle.style.top = `${y}px`;
    handle.setAttribute("aria-valuenow", at[0].toFixed(2));
    handle.setAttribute("aria-valuetext", `${at[0].toFixed(1)} across, ${at[1].toFixed(1)} up`);
  }

  function offset(event) {
    const box = frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  function nearest([x, y]) {
    let best = null;
    let least = NEAR_PX;
    places.forEach((place, i) => {
      const [px, py] = toPx(place);
      const distance = Math.hypot(px - x, py - y);
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }

  function hint(index) {
    tip.hidden = index === null;
    if (index === null) return;
    const [x, y] = toPx(places[index]);
    tip.firstElementChild.src = points[index].src;
    tip.lastElementChild.textContent = `${points[index].label ?? "sample"}, ${points[index].seed}`;
    tip.style.left = `${Math.min(x + 12, side() - 100)}px`;
    tip.style.top = `${Math.max(0, y - 80)}px`;
  }

  let press = null; // {start, index, dragging}
  frame.addEventListener("pointerdown", (event) => {
    if (event.button || !axes) return;
    const start = offset(event);
    const index = event.target === handle ? null : nearest(start);
    press = { start, index, dragging: false };
    frame.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    event.preventDefault();
    if (index === null && event.target !== handle) drag(start);
  });
  frame.addEventListener("pointermove", (event) => {
    const here = offset(event);
    if (!press) {
      hint(nearest(here));
      return;
    }
    const far = Math.hypot(here[0] - press.start[0], here[1] - press.start[1]) > MOVED_PX;
    if (press.dragging || far) drag(here);
  });
  frame.addEventListener("pointerup", () => {
    if (press && !press.dragging && press.index !== null) picked(points[press.index]);
    press = null;
  });
  frame.addEventListener("pointercancel", () => (press = null));
  frame.addEventListener("pointerleave", () => hint(null));

  function drag(px) {
    press.dragging = true;
    hint(null);
    const limit = (value) => Math.max(-radius, Math.min(radius, value));
    const [x, y] = fromPx(px).map(limit);
    moved(x - at[0], y - at[1]);
  }

  handle.addEventListener("keydown", (event) => {
    const size = event.shiftKey ? 5 * STEP : STEP;
    const steps = {
      ArrowRight: [size, 0],
      ArrowLeft: [-size, 0],
      ArrowUp: [0, size],
      ArrowDown: [0, -size],
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    moved(...steps[event.key]);
  });
  new ResizeObserver(paint).observe(frame);

  return {
    // points: as `encodedDigits` gives them; names: all labels, which choose the colours.
    show(given, chosen, names, z) {
      points = given;
      labels = names;
      axes = points.length > 2 ? chosen.axes(points) : [unit(z.length, 0), unit(z.length, 1)];
      centre = points.length ? meanOf(points.map(({ mu }) => mu)) : z.map(() => 0);
      places = points.map(({ mu }) => project(mu));
      const reach = places.flat().map(Math.abs).sort((a, b) => a - b);
      radius = Math.max(2.5, 1.08 * (reach[Math.floor(0.995 * reach.length)] ?? 0));
      handle.setAttribute("aria-valuemin", (-radius).toFixed(2));
      handle.setAttribute("aria-valuemax", radius.toFixed(2));
      this.move(z);
      paint();
    },
    // The point is at z now.
    move(z) {
      if (!axes) return;
      at = project(z);
      placeHandle();
    },
    // The picture's posterior, drawn as an ellipse; null = there is none.
    around(given) {
      posterior = given;
      paint();
    },
    // What moving by (dx, dy) makes of z.
    shifted: (z, dx, dy) => z.map((value, i) => value + dx * axes[0][i] + dy * axes[1][i]),
  };
}
