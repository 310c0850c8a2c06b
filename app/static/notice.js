// The one place where the page says that something is wrong, or that it waits.

import { Problem, events } from "./api.js";
import { $ } from "./dom.js";

let current = null; // {text}: what is shown
let counting = 0; // interval

function show(kind, text, action) {
  clearInterval(counting);
  current = { text };
  $("notice").className = `notice ${kind}`;
  $("notice").hidden = false;
  $("notice-text").textContent = text;
  $("notice-action").hidden = !action;
  $("notice-action").textContent = action?.label ?? "";
  $("notice-action").onclick = action
    ? () => {
        clear();
        action.run();
      }
    : null;
  return current;
}

// Remove what is shown; with `which`, only if it is that.
export function clear(which) {
  if (which && which !== current) return;
  clearInterval(counting);
  current = null;
  $("notice").hidden = true;
}

// Say what went wrong; `again` tries once more. Returns what `clear` takes.
export function explain(error, again) {
  const known = error instanceof Problem;
  if (!known) console.error(error);
  const text = known ? `${error.title}: ${error.message}` : "The page failed on this.";
  return show("error", text, again && { label: "Try again", run: again });
}

export function tell(text, action) {
  return show("info", text, action);
}

// A 503: count the seconds down until the request goes out again.
events.addEventListener("busy", ({ detail: seconds }) => {
  let left = seconds;
  const sentence = () => `The service is overloaded. Trying again in ${left} s…`;
  const mine = show("busy", sentence());
  counting = setInterval(() => {
    left -= 1;
    if (left <= 0) clear(mine);
    else $("notice-text").textContent = sentence();
  }, 1000);
});

// A thin line while something is under way for longer than a blink: +1 begins it, -1 ends it.
let under = 0;
let blink = 0;
export function working(change) {
  under += change;
  document.body.toggleAttribute("data-working", under > 0);
  clearTimeout(blink);
  if (under) blink = setTimeout(() => ($("progress").hidden = false), 120);
  else $("progress").hidden = true;
}
