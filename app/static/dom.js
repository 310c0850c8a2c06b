// Helpers for the document that every view uses.

export const $ = (id) => document.getElementById(id);

// el("a", {href: "/", class: "button"}, "text", child) creates an element.
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// A button for each name, or one named `none` if there are no names; onChoose gets the name, or null.
export const choices = (names, onChoose, none) =>
  (names.length || !none ? names : [null]).map((name) => {
    const button = el("button", { type: "button" }, name ?? none);
    button.addEventListener("click", () => onChoose(name));
    return button;
  });

// A data set's name: a word that explains itself, if the page knows it.
export function dataSet(name) {
  const known = $(`term-${name}`)?.dataset.name; // not so "style", which is no data set
  return known ? el("button", { type: "button", class: "term", popovertarget: `term-${name}` }, known) : name;
}

export const pngAddress = (base64) => `data:image/png;base64,${base64}`;

// "data:image/png;base64,…" -> Blob. Not by fetch: the page's content security policy forbids data: there.
export function blobOf(address) {
  const [head, base64] = address.split(",");
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: /:(.*?);/.exec(head)[1] });
}

export function imageOf(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("the image cannot be decoded"));
    image.src = address;
  });
}

// Make an <a> save a blob or an address; its former object URL is released.
export function setDownload(link, blobOrAddress, name) {
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = typeof blobOrAddress === "string" ? blobOrAddress : URL.createObjectURL(blobOrAddress);
  link.download = name;
  link.hidden = false;
}

export async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without permission or https: through a selection.
    const area = el("textarea", { value: text, readOnly: true });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  announce(`${name} copied`);
}

// Announce to screen readers, and show for a moment.
let fading = 0;
export function announce(text) {
  $("announce").textContent = text;
  $("announce").classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => $("announce").classList.remove("shown"), 1600);
}

// A range input and its <output>; `onInput` gets the number while it moves.
export function slider(id, onInput) {
  const input = $(id);
  const output = $(`${id}-value`);
  const show = () => (output.textContent = Number(input.value).toFixed(2));
  input.addEventListener("input", () => {
    show();
    onInput(Number(input.value));
  });
  return {
    get value() {
      return Number(input.value);
    },
    set value(number) {
      input.value = number;
      show();
    },
    // What the model does not have is not asked for.
    set disabled(off) {
      input.disabled = off;
    },
  };
}

export const randomSeed = () => Math.floor(Math.random() * 1e6);
