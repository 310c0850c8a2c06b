// The encoder's input, its reconstruction and their difference, and what was done to the image before.

import { request } from "./api.js";
import { $ } from "./dom.js";
import { latest } from "./latest.js";

export function beside(model) {
  const figure = $("draw-beside-figure");
  const show = latest(async (signal, upload, { width, height, steps }) => {
    const done = steps.length ? steps.join(", ") : "unchanged";
    $("draw-done").textContent = `Your image of ${width} × ${height} pixels: ${done}.`;
    const query = { model: model.pin, show: "error" };
    const { data } = await request("/reconstruct", { query, files: [await upload()], raw: true, as: "blob", signal, shown: false });
    if (signal.aborted) return;
    URL.revokeObjectURL($("draw-beside").src);
    $("draw-beside").src = URL.createObjectURL(data);
    figure.hidden = false;
  });
  return { show, stop: show.stop, hide: () => (figure.hidden = true) };
}
