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

// A truncation in an address; what is none is 1, as where none is told.
export function truncationOf(text) {
  const number = Number(text || 1);
  return number >= 0 && number <= 1 ? number : 1;
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
