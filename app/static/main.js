// Assembles the page: tabs, the address, and the views.

import { Problem } from "./api.js";
import { cards } from "./cards.js";
import { $ } from "./dom.js";
import { draw } from "./draw.js";
import { bindLock } from "./lock.js";
import { how } from "./how.js";
import { look } from "./look.js";
import { loadModels } from "./models.js";
import { morph } from "./morph.js";
import { clear, showError, showIgnored, working } from "./notice.js";
import { bindSnippets, showExchange } from "./snippets.js";
import { Link, addressOf, pushAddress, readAddress, replaceAddress } from "./state.js";
import { speed } from "./speed.js";
import { verify } from "./verify.js";
import { write } from "./write.js";

// name -> function that creates the view: {open(link), params(), close?(), dropped?(file)}. A view is
// created when it is first shown.
const CREATE = { look, draw, write, morph, how, speed, models: cards, verify };
const IMAGE_TYPES = ["image/png", "image/jpeg", "image/webp"]; // that the service reads
const views = {};
const opened = new Set(); // names of views that have opened a link
const exchanges = {}; // name -> the request behind what the view shows, with its response
let current = null;
let ready = false; // the models are known; a view cannot be created before
let early = null; // an image dropped before that

const tabs = [...document.querySelectorAll("[role=tab]")];

const app = {
  // The state of the current view has changed.
  save() {
    if (views[current]) replaceAddress(addressOf(current, views[current].params()));
  },
  // Show a view with these parameters, as a new entry of the history.
  go(name, params) {
    pushAddress(addressOf(name, params));
    show(name, new URLSearchParams(addressOf(name, params).split("?")[1] ?? ""));
  },
  // A view, which need not be the current one.
  view: (name) => (views[name] ??= CREATE[name](app)),
};

const sectionOf = (name) => $(`view-${name}`);

function show(name, params) {
  // Whether the focused element disappears with the former view.
  const leaving = current && current !== name;
  const lost =
    leaving &&
    (document.querySelector("dialog[open]") || sectionOf(current).contains(document.activeElement));
  if (current !== name) views[current]?.close?.();
  current = name;
  if (ready) clear();
  for (const tab of tabs) {
    const chosen = tab.dataset.view === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !chosen || !ready;
    if (chosen) {
      tab.scrollIntoView({ block: "nearest", inline: "nearest" });
      document.title = `${tab.textContent} · Genserve`;
    }
  }
  if (!ready) return;
  if (lost) {
    const heading = sectionOf(name).querySelector("h2");
    heading.tabIndex = -1;
    heading.focus();
  }
  showExchange(exchanges[name]);
  try {
    const link = new Link(params);
    app.view(name).open(link);
    sectionOf(name).inert = false;
    opened.add(name);
    if (link.ignored.length) showIgnored(link.ignored);
  } catch (error) {
    // The link is invalid: say so, and offer the view without it. A view that was never opened has no
    // state for its controls to work on.
    sectionOf(name).inert = !opened.has(name);
    const fresh = () => app.go(name, {});
    showError(error, error instanceof Problem ? fresh : undefined, "Open without the link's settings");
  }
}

function route() {
  const { view, params } = readAddress();
  show(Object.hasOwn(CREATE, view) ? view : "look", params);
}

function chooseTab(tab) {
  const name = tab.dataset.view;
  if (name === current) return;
  const params = views[name]?.params() ?? {};
  app.go(name, params);
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => chooseTab(tab));
  tab.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -index, End: tabs.length - 1 - index };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = tabs[(index + steps[event.key] + tabs.length) % tabs.length];
    next.focus();
    chooseTab(next);
  });
}
window.addEventListener("popstate", route);
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the state
  $("panel").focus();
});

// An image dropped on the page goes to the current view if it takes one, else it is verified.
for (const kind of ["dragover", "drop", "paste"]) {
  document.addEventListener(kind, (event) => {
    const carried = event.dataTransfer ?? event.clipboardData;
    if (!carried?.types.includes("Files")) return;
    if (carried.types.includes("text/plain") && event.target.matches?.("input")) return; // the text is for the field
    event.preventDefault();
    if (kind !== "dragover") receiveFiles([...carried.files]);
  });
}
function receiveFiles(files) {
  const image = files.find(({ type }) => IMAGE_TYPES.includes(type));
  if (image) receive(image);
  else if (files.length) {
    const text = `“${files[0].name}” cannot be read here. PNG, JPEG and WebP images are accepted.`;
    showError(new Problem(415, "Not an image", text));
  }
}
function receive(file) {
  if (!ready) early = file;
  else if (views[current]?.dropped) views[current].dropped(file);
  else {
    app.go("verify", {});
    views.verify.dropped(file);
  }
}

// A word that explains itself inside a dialog: what is outside cannot be reached while it is open.
document.addEventListener(
  "click",
  ({ target }) => {
    const explained = target.closest?.(".term")?.getAttribute("popovertarget");
    if (explained) (target.closest("dialog") ?? $("panel")).append($(explained));
  },
  true,
);

bindSnippets((exchange) => (exchanges[current] = exchange));

async function start() {
  working(+1);
  try {
    await loadModels();
  } catch (error) {
    showError(error, start);
    return;
  } finally {
    working(-1);
  }
  ready = true;
  current = null; // a tab may have been chosen already: now its view is created
  route();
  if (early) receive(early);
  early = null;
}
bindLock();
route();
start();
