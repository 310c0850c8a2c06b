// What a picture looks like, by the averages of each label, and whether the model knows such pictures.

import { $ } from "./dom.js";
import { withArticle } from "./words.js";

const RIDGE = 0.3; // of the mean variance: the dots are fewer than what a covariance takes
// Below this ratio of the second distance to the first, two labels are named. Of 400 test digits 332
// have more: the nearest label is right for 96 %, of the others for 47 % (tests/explorer/test_verdict.py).
const SURE = 1.15;
const UNKNOWN = 0.01; // a fit below is no picture that the model knows

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const minus = (a, b) => a.map((value, i) => value - b[i]);
const known = new WeakMap(); // points -> their discriminant

// The label whose average is nearest where numbers that vary within all labels count less: Fisher's
// linear discriminant. Returns z => [{label, count, far}], the nearest first; null = no point has a label.
function discriminantOf(points) {
  if (known.has(points)) return known.get(points);
  const labels = [...new Set(points.map(({ label }) => label))].filter((label) => label !== null);
  const averages = labels.map((label) => {
    const own = points.filter((point) => point.label === label);
    const mean = own[0].mu.map((_, i) => own.reduce((sum, { mu }) => sum + mu[i], 0) / own.length);
    return { label, count: own.length, mean, away: own.map(({ mu }) => minus(mu, mean)) };
  });
  const away = averages.flatMap((one) => one.away);
  const total = away.reduce((sum, row) => sum + dot(row, row), 0);
  const ridge = (RIDGE * total) / (away[0]?.length ?? 1) || 1;
  // With A the rows ``away``, (A'A + r)^-1 = (1 - A'(AA' + r)^-1 A) / r: the matrix is of as many
  // rows as there are points, however many numbers each has. Lower is its Cholesky factor.
  const lower = away.map(() => []);
  away.forEach((row, i) => {
    for (let j = 0; j <= i; j += 1) {
      const rest = dot(row, away[j]) + (i === j ? ridge : 0) - dot(lower[i], lower[j]);
      lower[i][j] = i === j ? Math.sqrt(rest) : rest / lower[j][j];
    }
  });
  const distance = (v) => {
    const solved = [];
    away.forEach((row, i) => solved.push((dot(row, v) - dot(solved, lower[i])) / lower[i][i]));
    return dot(v, v) - dot(solved, solved);
  };
  const found = averages.length
    ? (z) => averages.map((one) => ({ ...one, far: distance(minus(z, one.mean)) })).sort((a, b) => a.far - b.far)
    : null;
  known.set(points, found);
  return found;
}

// points: encoded samples. labels: all of them. z: the point. fit: share of unseen pictures of the
// training that fit worse; null = not measured. moved: whether z is elsewhere than the picture.
export function showVerdict({ points, labels, z, fit, moved }) {
  const [found, second] = discriminantOf(points)?.(z) ?? [];
  const unsure = second && second.far < SURE * found.far;
  const familiar = fit === null || moved || fit >= UNKNOWN;
  const digits = found && labels.every((label) => /^\d$/.test(label));
  const names = found ? [found, ...(unsure ? [second] : [])].map(({ label }) => withArticle(label)) : [];
  const drawn = `This ${unsure ? "could be" : "looks most like"} ${names.join(" or ")}.`;
  const place = `The point lies ${unsure ? "between" : "near"} ${names.join(" and ")}.`;
  const like = found ? (moved ? place : drawn) : "";
  $("draw-verdict").textContent = familiar ? like : `This is ${digits ? "no digit" : "nothing"} that I know.`;
  const nearest = found && familiar ? `Its numbers are nearest to the average of those of ${found.count} pictures of the label ${found.label}, the dots below.` : "";
  const percent = Math.round(100 * fit);
  const fits = familiar
    ? `It fits better than ${percent} of 100 pictures that the network had not seen before.`
    : "Of 100 pictures kept apart from its training fewer than one fits so badly, so its numbers mean little.";
  $("draw-why").textContent = `${nearest} ${fit === null || moved ? "" : fits}`.trim();
  $("draw-fit").hidden = fit === null || moved;
  $("draw-fit").value = fit ?? 0;
}
