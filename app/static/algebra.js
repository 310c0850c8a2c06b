// Linear algebra for the map of the latent space; vectors are arrays.

export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

export const unit = (size, at) => Array.from({ length: size }, (_, i) => (i === at ? 1 : 0));

export function meanOf(vectors) {
  const mean = new Array(vectors[0].length).fill(0);
  for (const vector of vectors) vector.forEach((value, i) => (mean[i] += value / vectors.length));
  return mean;
}

const lengthOf = (vector) => Math.sqrt(dot(vector, vector));

function normal(vector) {
  const length = lengthOf(vector);
  return vector.map((value) => value / length);
}

const STEPS = 60; // of the power iteration
const NEGLIGIBLE = 1e-12; // share of the total variance; anything below is rounding

// The first two principal components (PCA) of vectors of two or more dimensions, orthonormal, by
// power iteration. Where there is no variance left, any direction orthogonal to the first.
export function principal(vectors) {
  const mean = meanOf(vectors);
  const centred = vectors.map((vector) => vector.map((value, i) => value - mean[i]));
  const variance = centred.reduce((sum, vector) => sum + dot(vector, vector), 0);
  const axes = [];
  const orthogonal = (vector) => // to the axes so far
    axes.reduce((rest, axis) => {
      const along = dot(rest, axis);
      return rest.map((value, i) => value - along * axis[i]);
    }, vector);
  while (axes.length < 2) {
    // A generic start; if it lies in the span of the earlier axes, a unit vector.
    const starts = [mean.map((_, i) => 1 + ((i * 7919) % 13) / 13), ...mean.map((_, i) => unit(mean.length, i))];
    let axis = normal(starts.map(orthogonal).find((start) => lengthOf(start) > 0.1));
    for (let step = 0; step < STEPS; step++) {
      const next = new Array(axis.length).fill(0);
      for (const vector of centred) {
        const along = dot(vector, axis);
        vector.forEach((value, i) => (next[i] += along * value));
      }
      const rest = orthogonal(next);
      if (lengthOf(rest) <= NEGLIGIBLE * variance) break;
      axis = normal(rest);
    }
    axes.push(axis);
  }
  return axes;
}

// One standard deviation of independent numbers, projected to a plane: an ellipse's half axes, and the
// angle of the longer one. They follow from the 2 x 2 covariance.
export function ellipseOf(variance, axes) {
  const entry = (a, b) => variance.reduce((sum, v, i) => sum + v * axes[a][i] * axes[b][i], 0);
  const [a, b, c] = [entry(0, 0), entry(0, 1), entry(1, 1)];
  const middle = (a + c) / 2;
  const reach = Math.hypot((a - c) / 2, b);
  const half = [middle + reach, Math.max(0, middle - reach)].map(Math.sqrt);
  return { half, angle: Math.atan2(2 * b, a - c) / 2 };
}
