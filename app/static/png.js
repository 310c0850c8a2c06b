// A PNG composed of the service's PNGs gets their mark: that a model generated it.

const MARK = "XML:com.adobe.xmp";

function* chunksOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length; ) {
    const size = view.getUint32(at) + 12;
    yield { kind: String.fromCharCode(...bytes.subarray(at + 4, at + 8)), at, size };
    at += size;
  }
}

const bytesOf = async (blob) => new Uint8Array(await blob.arrayBuffer());

// `image` with the mark of `source` (an iTXt chunk with XMP) after the header. Not with its recipe:
// that would not reproduce these pixels.
export async function withMark(image, source) {
  const from = await bytesOf(source);
  const isMark = ({ kind, at }) =>
    kind === "iTXt" && String.fromCharCode(...from.subarray(at + 8, at + 8 + MARK.length)) === MARK;
  const mark = [...chunksOf(from)].find(isMark);
  if (!mark) return image;
  const to = await bytesOf(image);
  const [header] = chunksOf(to);
  const behind = header.at + header.size;
  const chunk = from.subarray(mark.at, mark.at + mark.size);
  return new Blob([to.subarray(0, behind), chunk, to.subarray(behind)], { type: "image/png" });
}
