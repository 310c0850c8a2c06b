// A canvas to draw on, white on black as the training digits are; its strokes fit into an address.

import { $, el } from "./dom.js";

const SIDE = 280; // canvas pixels
const UNITS = 255; // strokes are bytes: places from 0 to 255
const NEAR = 3; // units: points nearer to the one before are left out
const WIDTH = 22; // canvas pixels: two of the model's 28, as pens had
const MOST_POINTS = 1500; // what an address still takes

// Strokes, each a list of [x, y] in units -> text for an address, and back.
export function packStrokes(strokes) {
  const bytes = [];
  for (const stroke of strokes) {
    for (let start = 0; start < stroke.length; start += 254) {
      // One point of overlap, so that a long stroke stays in one piece.
      const part = stroke.slice(start, start + 255);
      bytes.push(part.length, ...part.flat());
    }
  }
  if (bytes.length > 2 * MOST_POINTS) return "";
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

export function unpackStrokes(text) {
  const strokes = [];
  try {
    const bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    for (let at = 0; at < bytes.length; ) {
      const count = bytes.charCodeAt(at++);
      const stroke = [];
      for (let i = 0; i < count && at + 1 < bytes.length; i++, at += 2) {
        stroke.push([bytes.charCodeAt(at), bytes.charCodeAt(at + 1)]);
      }
      if (stroke.length) strokes.push(stroke);
    }
  } catch {
    return null; // a broken link: nothing is drawn
  }
  return strokes.length ? strokes : null;
}

function blank(pen) {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, SIDE, SIDE);
}

// One step of a stroke, from the point before: drawn one by one also when an address is read, so
// that the edges, and with them the encoding, are the same.
function line(pen, stroke, index) {
  const at = ([x, y]) => [(x / UNITS) * SIDE, (y / UNITS) * SIDE];
  pen.strokeStyle = "#fff";
  pen.lineWidth = WIDTH;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...at(stroke[Math.max(0, index - 1)]));
  pen.lineTo(...at(stroke[index]));
  pen.stroke();
}

function paint(pen, strokes) {
  blank(pen);
  for (const stroke of strokes) stroke.forEach((_, index) => line(pen, stroke, index));
}

const pngOf = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

// A drawing as a PNG, white on black.
export function strokesPicture(strokes) {
  const canvas = el("canvas", { width: SIDE, height: SIDE });
  paint(canvas.getContext("2d"), strokes);
  return pngOf(canvas);
}

// drawn(strokes): after each change by hand.
export function pad(drawn) {
  const canvas = $("pad");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let strokes = [];
  let current = null; // the stroke under the pointer
  let pointer = null; // whose it is; others beside it draw nothing
  let picture = false; // what is shown was not drawn here: the first stroke replaces it

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const unit = (at, start, size) =>
      Math.max(0, Math.min(UNITS, Math.round(((at - start) / size) * UNITS)));
    return [unit(event.clientX, box.left, box.width), unit(event.clientY, box.top, box.height)];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || current) return;
    pointer = event.pointerId;
    canvas.setPointerCapture(event.pointerId);
    if (picture) {
      picture = false;
      strokes = [];
      blank(pen);
    }
    current = [place(event)];
    strokes.push(current);
    line(pen, current, 0);
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!current || event.pointerId !== pointer) return;
    for (const step of event.getCoalescedEvents?.() ?? [event]) {
      const point = place(step);
      const [x, y] = current[current.length - 1];
      if (Math.hypot(point[0] - x, point[1] - y) < NEAR) continue;
      current.push(point);
      line(pen, current, current.length - 1);
    }
    drawn(strokes);
  });
  // Cancelled or not, what is seen is what was drawn.
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, (event) => {
      if (!current || event.pointerId !== pointer) return;
      current = null;
      drawn(strokes);
    });
  }
  blank(pen);

  return {
    // Strokes, as they are drawn.
    set(given) {
      picture = false;
      current = null; // a pointer that is still down draws no more
      strokes = given;
      paint(pen, strokes);
    },
    undo() {
      if (!picture) this.set(strokes.slice(0, -1));
      return strokes;
    },
    // A picture in place of a drawing: an image or bitmap, with its proportions.
    show(image) {
      picture = true;
      current = null;
      strokes = [];
      blank(pen);
      const factor = Math.min(SIDE / image.width, SIDE / image.height);
      const [width, height] = [image.width * factor, image.height * factor];
      pen.imageSmoothingEnabled = factor < 1;
      pen.drawImage(image, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
    },
    blob: () => pngOf(canvas),
  };
}
