// Where the service asks for a key: a field for it, and links that show it.

import { ask } from "./api.js";
import { $, el } from "./dom.js";
import { forget, give, keyNow, locks } from "./key.js";
import { explain, placeNotice } from "./notice.js";

const KEY = /^[A-Za-z0-9._~+/=-]{16,256}$/; // what the service takes for one
const NEEDS_KEY = /^\/(generate|models)\b/; // of what the page links to

function say(text, bad) {
  $("lock-said").textContent = text;
  $("lock-key").setAttribute("aria-invalid", String(bad));
}

locks.addEventListener("locked", ({ detail: { wrong } }) => {
  placeNotice();
  $("lock").hidden = false;
  say(wrong ? "The service does not take this key. Is it whole?" : "", wrong);
  const idle = document.activeElement === document.body || $("lock").contains(document.activeElement);
  if (idle) $("lock-key").focus();
  if (wrong) $("lock-key").select();
});

locks.addEventListener("opened", () => {
  const held = $("lock").contains(document.activeElement);
  $("lock").hidden = true;
  $("lock-key").value = "";
  $("key-forget").hidden = false;
  if (held) (document.querySelector("dialog[open]") ?? $("panel")).focus();
});

// A browser that follows a link shows no key, so the page asks and hands on what comes.
async function follow(link) {
  const { pathname, search } = new URL(link.href);
  try {
    const { data } = await ask(pathname + search, { as: "file", shown: false });
    const address = URL.createObjectURL(data);
    if (!link.download) location.assign(address);
    else {
      el("a", { href: address, download: link.download }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    }
  } catch (error) {
    explain(error, () => follow(link));
  }
}

export function bindLock() {
  $("lock").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = $("lock-key").value.trim();
    if (KEY.test(given)) {
      say("Trying it…", false);
      give(given);
      // Whatever waited for it may have been given up.
      ask("/models", { shown: false }).catch((error) => explain(error));
    } else say("A key has 16 to 256 letters, digits and -._~+/=, no spaces.", true);
  });
  $("key-forget").addEventListener("click", forget);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const inNewTab = event.ctrlKey || event.metaKey || event.shiftKey;
    if (!link || inNewTab || keyNow() === null) return;
    if (link.origin !== location.origin || !NEEDS_KEY.test(link.pathname)) return;
    event.preventDefault();
    follow(link);
  });
}
