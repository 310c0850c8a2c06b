// The API key, for a service that needs one. It stays in this tab: never in an address, and gone when
// the tab is closed.

const STORAGE_KEY = "genserve-key";

// "needed" {detail: {wrong}} when the user has to enter a key, "accepted" when the service accepts it.
export const keyEvents = new EventTarget();

let key = storedKey();
let accepted = false; // the service has accepted the key once
let waiting = null; // {promise, resolve}: until another key is entered

function storedKey() {
  try {
    return sessionStorage.getItem(STORAGE_KEY);
  } catch {
    return null; // the browser forbids storage
  }
}

function store(text) {
  try {
    if (text === null) sessionStorage.removeItem(STORAGE_KEY);
    else sessionStorage.setItem(STORAGE_KEY, text);
  } catch {
    // Then the key lasts until the page is left.
  }
}

export const currentKey = () => key;

// Wait while the user is asked for a key: a request without one would be refused.
export async function keyAvailable(signal) {
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

// The service answered 401 to a request with this key (null = none). Returns once there is another.
export async function keyRejected(used, signal) {
  if (used === key && !waiting) {
    waiting = {};
    waiting.promise = new Promise((resolve) => (waiting.resolve = resolve));
    keyEvents.dispatchEvent(new CustomEvent("needed", { detail: { wrong: used !== null } }));
  }
  await keyAvailable(signal);
}

// The service did not answer 401 to a request with this key.
export function keyAccepted(used) {
  if (used === null || used !== key || accepted) return;
  accepted = true;
  store(key);
  keyEvents.dispatchEvent(new Event("accepted"));
}

export function setKey(text) {
  key = text;
  accepted = false;
  waiting?.resolve();
  waiting = null;
}

export function forgetKey() {
  store(null);
  location.reload();
}
