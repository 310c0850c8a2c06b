// Puts the page together: tabs, the address, and which view shows what.

import { Problem } from "./api.js";
import { board } from "./board.js";
import { cards } from "./cards.js";
import { cost } from "./cost.js";
import { $, filesIn } from "./dom.js";
import { draw } from "./draw.js";
import { loadModels } from "./models.js";
import { morph } from "./morph.js";
import { clear, explain } from "./notice.js";
import { bindSnippets, showMade } from "./snippets.js";
import { addressOf, pushAddress, readAddress, replaceAddress } from "./state.js";
import { verify } from "./verify.js";
import { write } from "./write.js";

// name -> view: {open(params), params(), close?(), dropped?(file)}. Made when it is first shown.
const MAKERS = { board, draw, morph, write, cost, models: cards, verify };
const views = {};
const made = {}; // name -> the request that made what the view shows
let current = null;

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

function show(name, params) {
  if (current !== name) views[current]?.close?.();
  current = name;
  clear();
  for (const tab of tabs) {
    const chosen = tab.dataset.view === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !chosen;
    if (chosen) {
      tab.scrollIntoView({ block: "nearest", inline: "nearest" });
      document.title = `${tab.textContent} · Genserve`;
    }
  }
  showMade(made[name]);
  try {
    app.view(name).open(params);
  } catch (error) {
    // The link cannot be followed: say so, and offer what is here.
    const fresh = () => app.go(name, {});
    explain(error, error instanceof Problem ? fresh : undefined);
    if (error instanceof Problem) $("notice-action").textContent = "Show what is served now";
  }
}

function route() {
  const { view, params } = readAddress();
  show(view in MAKERS ? view : "board", params);
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
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = filesIn(event.dataTransfer);
  if (file) receive(file);
});
document.addEventListener("paste", (event) => {
  const [file] = filesIn(event.clipboardData);
  if (file) receive(file);
});
function receive(file) {
  if (views[current].dropped) views[current].dropped(file);
  else {
    app.go("verify", {});
    views.verify.dropped(file);
  }
}

bindSnippets((request) => (made[current] = request));

async function start() {
  try {
    await loadModels();
  } catch (error) {
    explain(error, start);
    return;
  }
  route();
}
start();
