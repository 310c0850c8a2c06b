// A person's file as a picture that can be shown; what is none is a Problem that names it.

import { Problem } from "./api.js";

const TYPES = ["image/png", "image/jpeg", "image/webp"]; // what the service takes
const ACCEPTED = "Accepted are PNG, JPEG and WebP pictures.";

export async function bitmapOf(file) {
  const name = file.name ? `“${file.name}”` : "The file";
  if (!TYPES.includes(file.type)) {
    const kind = file.type ? `of the kind ${file.type}` : "of no known kind";
    throw new Problem(415, "Not taken", `${name} is ${kind}. ${ACCEPTED}`);
  }
  try {
    return await createImageBitmap(file);
  } catch {
    const said = `${name} cannot be read as a picture: it is damaged, or not what its name says.`;
    throw new Problem(422, "Not taken", `${said} ${ACCEPTED}`);
  }
}
