export function write() { return { open() {}, params: () => ({}) }; }
