export function draw() { return { open() {}, params: () => ({}) }; }
