// A PNG made of the service's PNGs says, as they do, that a model made it.

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

// `made` with the mark (an iTXt chunk with XMP) of `source`, behind its header. Not the recipe:
// /verify would find other pixels than that makes.
export async function withMark(made, source) {
  const from = await bytesOf(source);
  const isMark = ({ kind, at }) =>
    kind === "iTXt" && String.fromCharCode(...from.subarray(at + 8, at + 8 + MARK.length)) === MARK;
  const mark = [...chunksOf(from)].find(isMark);
  if (!mark) return made;
  const to = await bytesOf(made);
  const [header] = chunksOf(to);
  const behind = header.at + header.size;
  const chunk = from.subarray(mark.at, mark.at + mark.size);
  return new Blob([to.subarray(0, behind), chunk, to.subarray(behind)], { type: "image/png" });
}
