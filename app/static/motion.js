// Pictures that move by themselves: not if the system asks for less motion, nor while they are paused
// or nobody looks.

import { $ } from "./dom.js";

const wish = matchMedia("(prefers-reduced-motion: reduce)");
let paused = false;

export const mayMove = () => !paused && !wish.matches && !document.hidden && !document.querySelector("dialog[open]");

// The one button that pauses them all (WCAG 2.2.2).
export function bindPause() {
  const button = $("look-pause");
  const show = () => {
    button.hidden = wish.matches;
    button.textContent = paused ? "Let them move" : "Hold still";
  };
  button.addEventListener("click", () => {
    paused = !paused;
    show();
  });
  wish.addEventListener("change", show);
  show();
}

// Show frames there and back, without end; `show` gets each. Returns how to stop. What was `asked` for is
// shown once to its end though the others are held still; where less motion is wanted, the end alone.
export function loop(frames, ms, show, asked = false) {
  let at = asked && wish.matches ? frames.length - 1 : 0;
  let step = 1;
  show(frames[at]);
  const timer = setInterval(() => {
    const owed = asked && !wish.matches && step > 0 && at < frames.length - 1;
    if (!mayMove() && !owed) return;
    if (at + step < 0 || at + step >= frames.length) step = -step;
    at += step;
    show(frames[at]);
  }, ms);
  return () => clearInterval(timer);
}
