// The planes through the latent space that a map can show.

import { meanOf, principal, unit } from "./algebra.js";

// The planes to choose from, at least one: {id, name, axes: (points) => [u, v], centre: (points) =>
// latent in the middle, lanes: whether only u has a meaning}.
export function planesOf(order, points, size) {
  const origin = () => new Array(size).fill(0);
  const middle = (all) => meanOf(all.map(({ mu }) => mu));
  if (size === 1) {
    const axes = () => [unit(1, 0), [0]];
    return [{ id: "0", name: "the only latent, one row per label", axes, centre: origin, lanes: true }];
  }
  const planes = [];
  const labels = new Set(points.map((point) => point.label));
  if (size > 2 && labels.size > 2) {
    const of = (all, label) => all.filter((point) => point.label === label).map(({ mu }) => mu);
    const axes = (all) => principal([...labels].map((label) => meanOf(of(all, label))));
    planes.push({ id: "labels", name: "separates the labels best", axes, centre: middle });
  }
  if (size > 2 && points.length > 2) {
    const axes = (all) => principal(all.map(({ mu }) => mu));
    planes.push({ id: "pca", name: "greatest variance (PCA)", axes, centre: middle });
  }
  const listed = size === 2 ? [0, 1] : order; // two latents: x and y as usual
  for (let i = 0; i + 1 < Math.min(size, 12); i += 2) {
    const [a, b] = [listed[i], listed[i + 1]];
    const axes = () => [unit(size, a), unit(size, b)];
    planes.push({ id: `${a}-${b}`, name: `latents ${a} and ${b}`, axes, centre: origin });
  }
  return planes;
}
