// Short words for what every view does with the document.

export const $ = (id) => document.getElementById(id);

// el("a", {href: "/", class: "button"}, "text", child): an element; properties by their names.
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

export const pngAddress = (base64) => `data:image/png;base64,${base64}`;

// "data:image/png;base64,…" -> Blob. Not by fetch: the page's policy keeps that to our own host.
export function blobOf(address) {
  const [head, base64] = address.split(",");
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: /:(.*?);/.exec(head)[1] });
}

export function pictureOf(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("the picture cannot be shown"));
    image.src = address;
  });
}

// Give an <a> something to save; its former object address is released.
export function saves(link, blobOrAddress, name) {
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = typeof blobOrAddress === "string" ? blobOrAddress : URL.createObjectURL(blobOrAddress);
  link.download = name;
  link.hidden = false;
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // No permission, or no https: the old way, through a selection.
    const area = el("textarea", { value: text, readOnly: true });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  announce(`${what} copied`);
}

// Said to screen readers, and shown for a moment.
let fading = 0;
export function announce(text) {
  $("announce").textContent = text;
  $("announce").classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => $("announce").classList.remove("shown"), 1600);
}

// A range input and its <output>; `told` is called with the number while it moves.
export function slider(id, told) {
  const input = $(id);
  const output = $(`${id}-value`);
  const show = () => (output.textContent = Number(input.value).toFixed(2));
  input.addEventListener("input", () => {
    show();
    told(Number(input.value));
  });
  return {
    get value() {
      return Number(input.value);
    },
    set value(number) {
      input.value = number;
      show();
    },
  };
}

export const randomSeed = () => Math.floor(Math.random() * 1e6);
