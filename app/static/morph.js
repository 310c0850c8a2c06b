export function morph() { return { open() {}, params: () => ({}) }; }
