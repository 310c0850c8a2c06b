export function cost() { return { open() {}, params: () => ({}) }; }
