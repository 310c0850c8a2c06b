// Newest wins: of many calls one runs and one waits; a newer call replaces the waiting one. The
// running call is cancelled once it is overdue and another waits. So a fast network shows every step,
// and a slow one still shows some.

import { Problem } from "./api.js";
import { clear, showError, working } from "./notice.js";

const PATIENCE_MS = 150;

// Whether a retry may succeed: not after a 4xx, which refuses the request itself.
const mayPass = (error) => !(error instanceof Problem && error.status >= 400 && error.status < 500) || error.status === 429;

// Failed calls that a retry may help, with their arguments; they are retried together.
const failed = new Map();
function retryAll() {
  const all = [...failed];
  failed.clear();
  for (const [call, args] of all) call(...args);
}

// Turns work(signal, ...args) into call(...args), with call.stop(). After each await the work checks
// whether the signal is aborted, and then changes nothing. Errors go to the notice, with a retry
// where one may help. quiet: nobody waits for this work, so no progress is shown.
export function latest(work, { quiet = false } = {}) {
  let running = null; // AbortController
  let waiting = null; // arguments
  let overdue = false;
  let notice = null;

  function forget() {
    failed.delete(call);
    if (notice) clear(notice);
    notice = null;
  }

  async function run(args) {
    const controller = (running = new AbortController());
    overdue = false;
    if (!quiet) working(+1);
    const timer = setTimeout(() => {
      overdue = true;
      if (waiting) controller.abort();
    }, PATIENCE_MS);
    try {
      await work(controller.signal, ...args);
      if (!controller.signal.aborted) forget();
    } catch (error) {
      if (!controller.signal.aborted) {
        if (mayPass(error)) failed.set(call, args);
        else failed.delete(call);
        notice = showError(error, mayPass(error) ? retryAll : undefined);
        controller.abort(); // its other requests must not show anything later
      }
    }
    clearTimeout(timer);
    running = null;
    const next = waiting;
    waiting = null;
    if (next) run(next);
    if (!quiet) working(-1);
  }

  function call(...args) {
    if (!running) {
      run(args);
      return;
    }
    waiting = args;
    if (overdue) running.abort();
  }

  // Cancel the running and the waiting call, and remove their notice.
  call.stop = () => {
    waiting = null;
    running?.abort();
    forget();
  };
  return call;
}
