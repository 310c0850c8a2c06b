// Lists of seeds in the service's format: "0-3,17".

export const MAX_SEED = 2 ** 53 - 1;

// `count` seeds from `first` on; fewer at the end of the range.
export function seedsFrom(first, count) {
  return Array.from({ length: Math.min(count, MAX_SEED - first + 1) }, (_, index) => first + index);
}

// null = not such a list, or more than `max` seeds.
export function parseSeeds(text, max) {
  const seeds = [];
  for (const part of text.split(",")) {
    const run = /^(0|[1-9]\d{0,15})(?:-(0|[1-9]\d{0,15}))?$/.exec(part);
    if (!run) return null;
    const first = Number(run[1]);
    const last = Number(run[2] ?? run[1]);
    if (last < first || last > MAX_SEED || seeds.length + last - first + 1 > max) return null;
    for (let seed = first; seed <= last; seed++) seeds.push(seed);
  }
  return seeds;
}

export function writeSeeds(seeds) {
  const parts = [];
  for (let start = 0; start < seeds.length; ) {
    let end = start;
    while (end + 1 < seeds.length && seeds[end + 1] === seeds[end] + 1) end++;
    parts.push(start === end ? `${seeds[start]}` : `${seeds[start]}-${seeds[end]}`);
    start = end + 1;
  }
  return parts.join(",");
}
