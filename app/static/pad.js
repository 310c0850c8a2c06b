// A canvas to draw on, white on black like the training digits. An address can hold its strokes.

import { el } from "./dom.js";

const SIDE = 280; // canvas pixels
const UNITS = 255; // coordinates of strokes are bytes, 0 to 255
const MIN_STEP = 3; // units between points of a stroke; closer ones are dropped
const WIDTH = 22; // canvas pixels: about two of the model's 28, like a pen
const MAX_POINTS = 1500; // of a drawing in an address

// Strokes, each a list of [x, y] in units -> text for an address, and back.
export function packStrokes(strokes) {
  const bytes = [];
  for (const stroke of strokes) {
    for (let start = 0; start < stroke.length; start += 254) {
      // Parts overlap by one point, so that a long stroke stays connected.
      const part = stroke.slice(start, start + 255);
      bytes.push(part.length, ...part.flat());
    }
  }
  if (bytes.length > 2 * MAX_POINTS) return "";
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
    return null; // not base64
  }
  return strokes.length ? strokes : null;
}

function blank(pen) {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, SIDE, SIDE);
}

// One segment of a stroke. Also used for strokes of an address, so that antialiasing, and with it the
// encoding, is the same.
function line(pen, stroke, index) {
  const at = ([x, y]) => [(x / UNITS) * SIDE, (y / UNITS) * SIDE];
  if (index === 0) {
    // A path of no length draws nothing: a tap is a dot.
    pen.fillStyle = "#fff";
    pen.beginPath();
    pen.arc(...at(stroke[0]), WIDTH / 2, 0, 2 * Math.PI);
    pen.fill();
    return;
  }
  pen.strokeStyle = "#fff";
  pen.lineWidth = WIDTH;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...at(stroke[index - 1]));
  pen.lineTo(...at(stroke[index]));
  pen.stroke();
}

function paint(pen, strokes) {
  blank(pen);
  for (const stroke of strokes) stroke.forEach((_, index) => line(pen, stroke, index));
}

const pngOf = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

// A drawing as a PNG, white on black.
export function strokesImage(strokes) {
  const canvas = el("canvas", { width: SIDE, height: SIDE });
  paint(canvas.getContext("2d"), strokes);
  return pngOf(canvas);
}

// onDraw(strokes): the user changed the drawing; onEnd(): a stroke has ended.
export function pad(canvas, onDraw, onEnd) {
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let strokes = [];
  let current = null; // the stroke under the pointer
  let pointer = null; // its id; other pointers are ignored
  let picture = false; // the pad shows an image: the first stroke replaces it

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
      if (Math.hypot(point[0] - x, point[1] - y) < MIN_STEP) continue;
      current.push(point);
      line(pen, current, current.length - 1);
    }
    onDraw(strokes);
  });
  // A cancelled pointer ends the stroke too: what is visible was drawn.
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, (event) => {
      if (!current || event.pointerId !== pointer) return;
      current = null;
      onDraw(strokes);
      onEnd?.();
    });
  }
  blank(pen);

  return {
    // Show these strokes.
    set(given) {
      picture = false;
      current = null; // a pointer that is still down stops drawing
      strokes = given;
      paint(pen, strokes);
    },
    undo() {
      if (!picture) this.set(strokes.slice(0, -1));
      return strokes;
    },
    // Show an image or bitmap, in its proportions, instead of a drawing.
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
