// Puts the page together: tabs, the address, and which view shows what.

import { Problem } from "./api.js";
import { board } from "./board.js";
import { cards } from "./cards.js";
import { cost } from "./cost.js";
import { $ } from "./dom.js";
import { draw } from "./draw.js";
import { bindLock } from "./lock.js";
import { loadModels } from "./models.js";
import { morph } from "./morph.js";
import { clear, explain, tellLeft, working } from "./notice.js";
import { bindSnippets, showMade } from "./snippets.js";
import { Link, addressOf, pushAddress, readAddress, replaceAddress } from "./state.js";
import { verify } from "./verify.js";
import { write } from "./write.js";

// name -> view: {open(link), params(), close?(), dropped?(file)}. Made when it is first shown.
const MAKERS = { board, draw, morph, write, cost, models: cards, verify };
const PICTURES = ["image/png", "image/jpeg", "image/webp"]; // what the service reads
const views = {};
const opened = new Set(); // names of views that have followed a link
const made = {}; // name -> the request that made what the view shows
let current = null;
let ready = false; // what is served is known; before, a view cannot be made
let early = null; // a picture that came before

const tabs = [...document.querySelectorAll("[role=tab]")];

const app = {
  // The state of the shown view has changed.
  save() {
    if (views[current]) replaceAddress(addressOf(current, views[current].params()));
  },
  // Show a view with these parameters; going back leads here again.
  go(name, params) {
    pushAddress(addressOf(name, params));
    show(name, new URLSearchParams(addressOf(name, params).split("?")[1] ?? ""));
  },
  // A view that may be asked something while it is not shown.
  view: (name) => (views[name] ??= MAKERS[name](app)),
};

const sectionOf = (name) => $(`view-${name}`);

function show(name, params) {
  // Whether what has the focus goes away with the former view.
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
  showMade(made[name]);
  try {
    const link = new Link(params);
    app.view(name).open(link);
    sectionOf(name).inert = false;
    opened.add(name);
    if (link.left.length) tellLeft(link.left);
  } catch (error) {
    // The link cannot be followed: say so, and offer what is here. What has never been opened has
    // nothing yet that its controls could work on.
    sectionOf(name).inert = !opened.has(name);
    const fresh = () => app.go(name, {});
    explain(error, error instanceof Problem ? fresh : undefined, "Show what is served now");
  }
}

function route() {
  const { view, params } = readAddress();
  show(Object.hasOwn(MAKERS, view) ? view : "board", params);
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

// A picture dropped on the page goes to the view that wants it, else it is verified.
for (const kind of ["dragover", "drop", "paste"]) {
  document.addEventListener(kind, (event) => {
    const carried = event.dataTransfer ?? event.clipboardData;
    if (!carried?.types.includes("Files")) return;
    if (carried.types.includes("text/plain") && event.target.matches?.("input")) return; // it wants text
    event.preventDefault();
    if (kind !== "dragover") sort([...carried.files]);
  });
}
function sort(files) {
  const picture = files.find(({ type }) => PICTURES.includes(type));
  if (picture) receive(picture);
  else if (files.length) {
    const text = `“${files[0].name}” is none that can be read here: PNG, JPEG and WebP are.`;
    explain(new Problem(415, "Not a picture", text));
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

bindSnippets((request) => (made[current] = request));

async function start() {
  working(+1);
  try {
    await loadModels();
  } catch (error) {
    explain(error, start);
    return;
  } finally {
    working(-1);
  }
  ready = true;
  current = null; // a tab may have been chosen before: now its view is made
  route();
  if (early) receive(early);
  early = null;
}
bindLock();
route();
start();
