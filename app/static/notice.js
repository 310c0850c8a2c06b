// The one place where the page says that something is wrong, or that it waits.

import { Problem, events } from "./api.js";
import { $ } from "./dom.js";

let current = null; // {text, kind}: what is shown
let counting = 0; // interval
let under = 0; // pieces of work under way

// What is behind an open dialog can neither be seen well nor be reached: the notice goes with it.
export function placeNotice() {
  const home = document.querySelector("dialog[open]") ?? $("panel");
  if ($("notices").parentElement !== home) home.prepend($("notices"));
}
document.addEventListener("close", placeNotice, true); // of a dialog; it does not bubble

function show(kind, text, action, count = "") {
  clearInterval(counting);
  placeNotice();
  current = { text, kind };
  $("notice").className = `notice ${kind}`;
  $("notice").hidden = false;
  // The same again, as of ten columns that wait, is not read out again.
  if ($("notice-text").textContent !== text) $("notice-text").textContent = text;
  $("notice-count").textContent = count;
  const button = $("notice-action");
  button.hidden = !action;
  button.textContent = action?.label ?? "";
  button.onclick = () => {
    clear();
    // The button is gone: who pressed it goes on from where it was.
    (document.querySelector("dialog[open]") ?? $("panel")).focus();
    action.run();
  };
  return current;
}

// Remove what is shown; with `which`, only if it is that.
export function clear(which) {
  if (which && which !== current) return;
  clearInterval(counting);
  current = null;
  $("notice").hidden = true;
  $("notice-text").textContent = "";
}

// Say which parts of a link, by their names in it, count for nothing.
export function tellLeft(names) {
  if (current && !current.left) return; // something went wrong, which says more
  const left = [...(current?.left ?? []), ...names];
  show("left", `What the link says of ${left.join(", ")} cannot be followed, so it is left out.`).left = left;
}

// Say what went wrong; `again` tries once more, under the name of `label`. Returns what `clear`
// takes.
export function explain(error, again, label = "Try again") {
  const known = error instanceof Problem;
  if (!known) console.error(error);
  const text = known ? `${error.title}: ${error.message}` : "The page failed on this.";
  return show("error", text, again && { label, run: again });
}

// A refusal for load: count the seconds down until the request goes out again. The count is seen and not read
// out, and the sentence stays until everything is answered, so that it is read out once.
events.addEventListener("busy", ({ detail: seconds }) => {
  let left = Math.ceil(seconds);
  const count = () => (left > 0 ? ` in ${left} s…` : " now…");
  show("busy", "The service is overloaded. Trying again", undefined, count());
  counting = setInterval(() => {
    left -= 1;
    $("notice-count").textContent = count();
    if (left > 0) return;
    clearInterval(counting);
    if (!under) clear();
  }, 1000);
});

// A thin line while something is under way for longer than a blink: +1 begins it, -1 ends it.
let blink = 0;
export function working(change) {
  under += change;
  document.body.toggleAttribute("data-working", under > 0);
  clearTimeout(blink);
  if (under) blink = setTimeout(() => ($("progress").hidden = false), 120);
  else $("progress").hidden = true;
  if (!under && current?.kind === "busy") clear();
}
