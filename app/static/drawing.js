// What the visitor has drawn, the same on every pad.

let strokes = [];
let by = null; // the pad that it was drawn on, or that has taken it over

export function keep(given, pad) {
  strokes = given;
  by = pad;
}

// The drawing, if another pad has made or cleared it since; else null.
export function takeOver(pad) {
  if (by === null || by === pad) return null;
  by = pad;
  return strokes.map((stroke) => [...stroke]);
}
