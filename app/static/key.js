// The caller's key, where the service asks for one. It stays in this tab: never in an address, and
// gone when the tab is closed.

const PLACE = "genserve-key";

// "locked" {detail: {wrong}} when a key has to be given, "opened" when the one that was given is taken.
export const locks = new EventTarget();

let key = kept();
let told = false; // the key has been taken once
let waiting = null; // {promise, open}: until another key is given

function kept() {
  try {
    return sessionStorage.getItem(PLACE);
  } catch {
    return null; // a browser that lets pages keep nothing
  }
}

function keep(text) {
  try {
    if (text === null) sessionStorage.removeItem(PLACE);
    else sessionStorage.setItem(PLACE, text);
  } catch {
    // Then it lasts until the page is left.
  }
}

export const keyNow = () => key;

// Waits while a key is asked for; nothing needs to be sent without one.
export async function unlocked(signal) {
  if (!waiting) return;
  let stop;
  const stopped = new Promise((_, reject) => {
    stop = () => reject(signal.reason);
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) stop();
  });
  try {
    await Promise.race([waiting.promise, stopped]);
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

// A 401 to a request with this key (null = none): returns once there is another.
export async function refused(used, signal) {
  if (used === key && !waiting) {
    waiting = {};
    waiting.promise = new Promise((resolve) => (waiting.open = resolve));
    locks.dispatchEvent(new CustomEvent("locked", { detail: { wrong: used !== null } }));
  }
  await unlocked(signal);
}

// An answer that is no 401 to a request with this key.
export function taken(used) {
  if (used === null || used !== key || told) return;
  told = true;
  keep(key);
  locks.dispatchEvent(new Event("opened"));
}

export function give(text) {
  key = text;
  told = false;
  waiting?.open();
  waiting = null;
}

export function forget() {
  keep(null);
  location.reload();
}
