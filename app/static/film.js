// The film of a training run: one WebP with the run's own pictures, one under the other, and in its XMP
// when each was taken and the losses between (training/release/film.py).

// The JSON in the XMP of a WebP; null = there is none.
async function notesOf(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const view = new DataView(bytes.buffer);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const kind = String.fromCharCode(...bytes.subarray(at, at + 4));
    const size = view.getUint32(at + 4, true);
    if (kind === "XMP ") {
      const text = new TextDecoder().decode(bytes.subarray(at + 8, at + 8 + size));
      const parsed = new DOMParser().parseFromString(text, "application/xml");
      const found = [...parsed.querySelectorAll("*")].find((node) => node.hasAttribute("genserve:film"));
      return found ? JSON.parse(found.getAttribute("genserve:film")) : null;
    }
    at += 8 + size + (size % 2);
  }
  return null;
}

// {bitmap, frames: images seen at each, images: seen at each loss, losses: {name: values}, chance}
export async function filmOf(blob) {
  const notes = await notesOf(blob);
  return notes && { ...notes, bitmap: await createImageBitmap(blob) };
}
