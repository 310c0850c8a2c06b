// The little linear algebra that a map of latents needs; vectors are arrays.

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
const NOTHING = 1e-12; // of all variance: below is rounding alone

// The two orthonormal directions in which vectors of two numbers or more differ most from their mean
// (PCA), by power iteration; where they do not differ, any that is at right angles to the first.
export function principal(vectors) {
  const mean = meanOf(vectors);
  const left = vectors.map((vector) => vector.map((value, i) => value - mean[i]));
  const variance = left.reduce((sum, vector) => sum + dot(vector, vector), 0);
  const axes = [];
  const free = (vector) =>
    axes.reduce((rest, axis) => {
      const along = dot(rest, axis);
      return rest.map((value, i) => value - along * axis[i]);
    }, vector);
  while (axes.length < 2) {
    // Any start that favours nothing; where the axes before leave nothing of it, some other.
    const starts = [mean.map((_, i) => 1 + ((i * 7919) % 13) / 13), ...mean.map((_, i) => unit(mean.length, i))];
    let axis = normal(starts.map(free).find((start) => lengthOf(start) > 0.1));
    for (let step = 0; step < STEPS; step++) {
      const next = new Array(axis.length).fill(0);
      for (const vector of left) {
        const along = dot(vector, axis);
        vector.forEach((value, i) => (next[i] += along * value));
      }
      const rest = free(next);
      if (lengthOf(rest) <= NOTHING * variance) break;
      axis = normal(rest);
    }
    axes.push(axis);
  }
  return axes;
}
