// The address is the state: #view?key=value. A link to it shows the same.

const WRITE_MS = 200; // browsers limit how often an address may be written

export function readAddress() {
  const [view, query = ""] = location.hash.slice(1).split("?");
  return { view, params: new URLSearchParams(query) };
}

export function addressOf(view, params) {
  const known = Object.entries(params).filter(([, value]) => value !== undefined && value !== "");
  const query = new URLSearchParams(known).toString().replaceAll("%40", "@").replaceAll("%2C", ",");
  return query ? `#${view}?${query}` : `#${view}`;
}

// What a link asks a view for. Each part is read by a function that gives null for what it cannot
// follow; `left` then names the part, and the view goes on as if it had not been told.
export class Link {
  left = [];

  constructor(params) {
    this.params = params;
  }

  // null = it is not told, or cannot be followed.
  take(name, read = (text) => text) {
    const text = this.params.get(name);
    const value = text ? read(text) : null;
    if (text && value === null) this.left.push(name);
    return value;
  }

  // Whether it is told, be it empty.
  has(name) {
    return this.params.has(name);
  }
}

// A truncation in an address; null = it is none.
export function truncationIn(text) {
  const number = text.trim() ? Number(text) : NaN;
  return number >= 0 && number <= 1 ? number : null;
}

let timer = 0;
let due = null;

function write() {
  clearTimeout(timer);
  timer = 0;
  if (due) history.replaceState(null, "", due);
  due = null;
}

// The state of the view that is shown has changed.
export function replaceAddress(address) {
  due = address;
  timer ||= setTimeout(write, WRITE_MS);
}

// Another view: one step back leads to the former.
export function pushAddress(address) {
  write();
  if (address !== location.hash) history.pushState(null, "", address);
}

export function currentAddress() {
  write();
  return location.href;
}
