// The little linear algebra that a map of latents needs; vectors are arrays.

export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

export function meanOf(vectors) {
  const mean = new Array(vectors[0].length).fill(0);
  for (const vector of vectors) vector.forEach((value, i) => (mean[i] += value / vectors.length));
  return mean;
}

// The two orthonormal directions in which vectors differ most from their mean (PCA), by power
// iteration; the second is taken from what the first leaves.
export function principal(vectors) {
  const mean = meanOf(vectors);
  let left = vectors.map((vector) => vector.map((value, i) => value - mean[i]));
  const axes = [];
  for (let count = 0; count < 2; count++) {
    let axis = mean.map((_, i) => 1 + ((i * 7919) % 13) / 13); // any start that favours nothing
    for (let step = 0; step < 60; step++) {
      const next = new Array(axis.length).fill(0);
      for (const vector of left) {
        const along = dot(vector, axis);
        vector.forEach((value, i) => (next[i] += along * value));
      }
      const length = Math.hypot(...next);
      if (!length) break;
      axis = next.map((value) => value / length);
    }
    axes.push(axis);
    left = left.map((vector) => {
      const along = dot(vector, axis);
      return vector.map((value, i) => value - along * axis[i]);
    });
  }
  return axes;
}

export const unit = (size, at) => Array.from({ length: size }, (_, i) => (i === at ? 1 : 0));
