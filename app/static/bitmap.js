// A user's file as a bitmap; throws a Problem that names the file if it cannot be read.

import { Problem } from "./api.js";

const TYPES = ["image/png", "image/jpeg", "image/webp"]; // what the service accepts
const ACCEPTED = "PNG, JPEG and WebP images are accepted.";

export async function bitmapOf(file) {
  const name = file.name ? `“${file.name}”` : "The file";
  if (!TYPES.includes(file.type)) {
    const type = file.type ? `has the type ${file.type}` : "has no known type";
    throw new Problem(415, "Not accepted", `${name} ${type}. ${ACCEPTED}`);
  }
  try {
    return await createImageBitmap(file);
  } catch {
    const reason = `${name} cannot be read: it is damaged, or not the type that its name says.`;
    throw new Problem(422, "Not accepted", `${reason} ${ACCEPTED}`);
  }
}
