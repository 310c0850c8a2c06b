export function verify() { return { open() {}, params: () => ({}) }; }
