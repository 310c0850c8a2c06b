// The form for the API key, and links to resources that need it.

import { request } from "./api.js";
import { $, el } from "./dom.js";
import { currentKey, forgetKey, keyEvents, setKey } from "./key.js";
import { placeNotice, showError } from "./notice.js";

const KEY = /^[A-Za-z0-9._~+/=-]{16,256}$/; // what the service accepts as a key
const NEEDS_KEY = /^\/(generate|models)\b/; // paths that the page links to

function showMessage(text, bad) {
  $("lock-message").textContent = text;
  $("lock-key").setAttribute("aria-invalid", String(bad));
}

keyEvents.addEventListener("needed", ({ detail: { wrong } }) => {
  placeNotice();
  $("lock").hidden = false;
  showMessage(wrong ? "The service does not accept this key. Is it complete?" : "", wrong);
  const idle = document.activeElement === document.body || $("lock").contains(document.activeElement);
  if (idle) $("lock-key").focus();
  if (wrong) $("lock-key").select();
});

keyEvents.addEventListener("accepted", () => {
  const hadFocus = $("lock").contains(document.activeElement);
  $("lock").hidden = true;
  $("lock-key").value = "";
  $("key-forget").hidden = false;
  if (hadFocus) (document.querySelector("dialog[open]") ?? $("panel")).focus();
});

// A browser sends no key when it follows a link, so the page requests the resource and hands it over.
async function follow(link) {
  const { pathname, search } = new URL(link.href);
  try {
    const { data } = await request(pathname + search, { as: "file", shown: false });
    const address = URL.createObjectURL(data);
    if (!link.download) location.assign(address);
    else {
      el("a", { href: address, download: link.download }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    }
  } catch (error) {
    showError(error, () => follow(link));
  }
}

export function bindLock() {
  $("lock").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = $("lock-key").value.trim();
    if (KEY.test(given)) {
      showMessage("Checking…", false);
      setKey(given);
      // The request that waited for a key may have been cancelled, so check the key by another.
      request("/models", { shown: false }).catch((error) => showError(error));
    } else showMessage("A key has 16 to 256 letters, digits and -._~+/=, no spaces.", true);
  });
  $("key-forget").addEventListener("click", forgetKey);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const inNewTab = event.ctrlKey || event.metaKey || event.shiftKey;
    if (!link || inNewTab || currentKey() === null) return;
    if (link.origin !== location.origin || !NEEDS_KEY.test(link.pathname)) return;
    event.preventDefault();
    follow(link);
  });
}
