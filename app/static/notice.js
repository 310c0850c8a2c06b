// The one place that shows errors and waits.

import { Problem, events } from "./api.js";
import { $ } from "./dom.js";

let current = null; // {text, kind}: what is shown
let counting = 0; // interval
let pending = 0; // pieces of work in progress

// An open dialog hides what is behind it and makes it inert, so the notice moves into the dialog.
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
  // Screen readers announce a change only: ten columns that wait are announced once.
  if ($("notice-text").textContent !== text) $("notice-text").textContent = text;
  $("notice-count").textContent = count;
  const button = $("notice-action");
  button.hidden = !action;
  button.textContent = action?.label ?? "";
  button.onclick = () => {
    clear();
    // The button is gone: move the focus to where it was.
    (document.querySelector("dialog[open]") ?? $("panel")).focus();
    action.run();
  };
  return current;
}

// Remove the notice; with `which`, only if that is the one shown.
export function clear(which) {
  if (which && which !== current) return;
  clearInterval(counting);
  current = null;
  $("notice").hidden = true;
  $("notice-text").textContent = "";
}

// Show which parameters of a link, by their names, are ignored.
export function showIgnored(names) {
  if (current && !current.ignored) return; // an error matters more
  const ignored = [...(current?.ignored ?? []), ...names];
  show("ignored", `The link has no valid value for ${ignored.join(", ")}, so it is ignored.`).ignored = ignored;
}

// Show an error, with a button `label` that calls `retry`. Returns what `clear` takes.
export function showError(error, retry, label = "Try again") {
  const known = error instanceof Problem;
  if (!known) console.error(error);
  const sentence = error.message === error.title ? error.title : `${error.title}: ${error.message}`;
  const text = known ? sentence : "The page failed. The browser's console has the details.";
  return show("error", text, retry && { label, run: retry });
}

// A refusal pending overload: count down to the retry. The count is hidden from screen readers and the
// sentence stays until all work is done, so that it is announced once. An error matters more: its
// retry would be gone when the wait is over.
events.addEventListener("busy", ({ detail: seconds }) => {
  if (current?.kind === "error") return;
  let remaining = Math.ceil(seconds);
  const count = () => (remaining > 0 ? ` in ${remaining} s…` : " now…");
  show("busy", "The service is overloaded. Trying again", undefined, count());
  counting = setInterval(() => {
    remaining -= 1;
    $("notice-count").textContent = count();
    if (remaining > 0) return;
    clearInterval(counting);
    if (!pending) clear();
  }, 1000);
});

// A thin line while work takes longer than a moment: +1 begins a piece of work, -1 ends it.
let delay = 0;
export function working(change) {
  pending += change;
  document.body.toggleAttribute("data-working", pending > 0);
  clearTimeout(delay);
  if (pending) delay = setTimeout(() => ($("progress").hidden = false), 120);
  else $("progress").hidden = true;
  if (!pending && current?.kind === "busy") clear();
}
