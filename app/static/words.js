// Words for what is shown.

const DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
export const COUNTS = ["no", "one", "two", "three"];

// The kinds of models, in words.
export const KINDS = { gan: "GAN", cgan: "conditional GAN", vae: "VAE", graph: "imported generator" };

export const isDigit = (label) => /^\d$/.test(label ?? "");

export const withArticle = (word) => `${/^(8|11|18|[aeiou](?!ne$))/i.test(word) ? "an" : "a"} ${word}`;

// "A seven", "An eight", "A cat", "A picture".
export function named(label) {
  const words = withArticle(isDigit(label) ? DIGITS[label] : (label ?? "picture"));
  return words[0].toUpperCase() + words.slice(1);
}

// "sevens", "sixes".
export const plural = (label) => (label === "6" ? "sixes" : `${DIGITS[label]}s`);
