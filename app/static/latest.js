// Newest wins: of many calls one is open and one waits; a newer one takes the waiting one's place.
// What is open is cancelled once it is overdue and something newer waits, so that a slow network
// still shows something on the way, and a fast one shows everything.

import { clear, explain, working } from "./notice.js";

const PATIENCE_MS = 150;

// work(signal, ...args) -> call(...args), with call.stop(). Errors go to the notice, with a retry.
// quiet: it is no work that anybody waits for.
export function latest(work, { quiet = false } = {}) {
  let open = null; // AbortController
  let waiting = null; // arguments
  let overdue = false;
  let told = null;

  async function run(args) {
    const controller = (open = new AbortController());
    overdue = false;
    if (!quiet) working(+1);
    const timer = setTimeout(() => {
      overdue = true;
      if (waiting) controller.abort();
    }, PATIENCE_MS);
    try {
      await work(controller.signal, ...args);
      if (told) clear(told);
      told = null;
    } catch (error) {
      if (!controller.signal.aborted) told = explain(error, () => call(...args));
    }
    clearTimeout(timer);
    open = null;
    const next = waiting;
    waiting = null;
    if (next) run(next);
    if (!quiet) working(-1);
  }

  function call(...args) {
    if (!open) {
      run(args);
      return;
    }
    waiting = args;
    if (overdue) open.abort();
  }

  call.stop = () => {
    waiting = null;
    open?.abort();
  };
  return call;
}
