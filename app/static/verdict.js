// What a picture looks like, by its neighbours, and whether the model knows such pictures.

import { $ } from "./dom.js";
import { withArticle } from "./words.js";

const NEIGHBOURS = 9; // encoded samples that say what a picture looks like
const UNKNOWN = 0.01; // a fit below is no picture that the model knows

// The label of most of the nearest encoded samples, and how many of them have it; null = there are none.
function nearestLabel(points, z) {
  const away = ({ mu }) => mu.reduce((sum, value, i) => sum + (value - z[i]) ** 2, 0);
  const labelled = points.filter(({ label }) => label !== null);
  const near = labelled.map((point) => [away(point), point.label]).sort(([a], [b]) => a - b).slice(0, NEIGHBOURS);
  const counts = new Map();
  for (const [, label] of near) counts.set(label, (counts.get(label) ?? 0) + 1);
  const [best] = [...counts].sort(([, a], [, b]) => b - a);
  return best ? { label: best[0], count: best[1], of: near.length } : null;
}

// points: encoded samples. labels: all of them. z: the point. fit: share of unseen pictures of the
// training that fit worse; null = not measured. moved: whether z is elsewhere than the picture.
export function showVerdict({ points, labels, z, fit, moved }) {
  const found = nearestLabel(points, z);
  const known = fit === null || moved || fit >= UNKNOWN;
  const digits = found && labels.every((label) => /^\d$/.test(label));
  const like = found ? `${moved ? "The point lies near" : "This looks most like"} ${withArticle(found.label)}.` : "";
  $("draw-verdict").textContent = known ? like : `This is ${digits ? "no digit" : "nothing"} that I know.`;
  const neighbours = found && known ? `Of the ${found.of} dots whose numbers are nearest, ${found.count} have the label ${found.label}.` : "";
  const percent = Math.round(100 * fit);
  const fits = known
    ? `It fits better than ${percent} of 100 pictures that the network had not seen before.`
    : "Fewer than 1 in 100 unseen pictures of its training fit so badly, so its numbers mean little.";
  $("draw-why").textContent = `${neighbours} ${fit === null || moved ? "" : fits}`.trim();
  $("draw-fit").hidden = fit === null || moved;
  $("draw-fit").value = fit ?? 0;
}
