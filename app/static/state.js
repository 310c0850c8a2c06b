// The state is in the address: #view?key=value. Its link opens the same view.

const WRITE_MS = 200; // browsers limit how often an address may change

export function readAddress() {
  const [view, query = ""] = location.hash.slice(1).split("?");
  return { view, params: new URLSearchParams(query) };
}

export function addressOf(view, params) {
  const known = Object.entries(params).filter(([, value]) => value !== undefined && value !== "");
  const query = new URLSearchParams(known).toString().replaceAll("%40", "@").replaceAll("%2C", ",");
  return query ? `#${view}?${query}` : `#${view}`;
}

// The parameters of a link. Each is parsed by a function that returns null for an invalid value; the
// parameter is then listed in `ignored` and treated as absent.
export class Link {
  ignored = [];

  constructor(params) {
    this.params = params;
  }

  // null = absent or invalid.
  take(name, parse = (text) => text) {
    const text = this.params.get(name);
    const value = text ? parse(text) : null;
    if (text && value === null) this.ignored.push(name);
    return value;
  }

  // Whether the parameter is present, even if empty.
  has(name) {
    return this.params.has(name);
  }
}

// Truncation at first: styles near the average, which are good ones.
export const TYPICAL = 0.7;

// A truncation in an address; null = invalid.
export function truncationIn(text) {
  const number = text.trim() ? Number(text) : NaN;
  return number >= 0 && number <= 1 ? number : null;
}

export const MAX_LATENT = 1000; // what the service decodes, either side of 0

// A point in an address; null = invalid, or of another number of latents.
export function placeIn(text, size) {
  const place = text.split(",").map((part) => (part.trim() ? Number(part) : NaN));
  return place.length === size && place.every((value) => Math.abs(value) <= MAX_LATENT) ? place : null;
}

let timer = 0;
let due = null;

function write() {
  clearTimeout(timer);
  timer = 0;
  document.body.removeAttribute("data-unsaved");
  if (due) history.replaceState(null, "", due);
  due = null;
}

// The state of the current view has changed.
export function replaceAddress(address) {
  due = address;
  document.body.setAttribute("data-unsaved", "");
  timer ||= setTimeout(write, WRITE_MS);
}

// Another view, as a new entry of the history.
export function pushAddress(address) {
  write();
  if (address !== location.hash) history.pushState(null, "", address);
}

export function currentAddress() {
  write();
  return location.href;
}
