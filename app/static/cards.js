export function cards() { return { open() {}, params: () => ({}) }; }
