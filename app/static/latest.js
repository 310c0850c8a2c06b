// Newest wins: of many calls one is open and one waits; a newer one takes the waiting one's place.
// What is open is cancelled once it is overdue and something newer waits, so that a slow network
// still shows something on the way, and a fast one shows everything.

import { Problem } from "./api.js";
import { clear, explain, working } from "./notice.js";

const PATIENCE_MS = 150;

// Whether the same call may go better: not what was refused for what it asks.
const mayPass = (error) => !(error instanceof Problem && error.status >= 400 && error.status < 500) || error.status === 429;

// What failed and may pass, with its arguments: it is tried again together.
const failed = new Map();
function tryAgain() {
  const all = [...failed];
  failed.clear();
  for (const [call, args] of all) call(...args);
}

// work(signal, ...args) -> call(...args), with call.stop(). After each of its awaits the work looks
// whether the signal is aborted, and if so changes nothing. Errors go to the notice, with a retry
// where one may help. quiet: it is no work that anybody waits for.
export function latest(work, { quiet = false } = {}) {
  let open = null; // AbortController
  let waiting = null; // arguments
  let overdue = false;
  let told = null;

  function forget() {
    failed.delete(call);
    if (told) clear(told);
    told = null;
  }

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
      if (!controller.signal.aborted) forget();
    } catch (error) {
      if (!controller.signal.aborted) {
        if (mayPass(error)) failed.set(call, args);
        else failed.delete(call);
        told = explain(error, mayPass(error) ? tryAgain : undefined);
        controller.abort(); // what else it had begun is not to show itself later
      }
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

  // Nothing comes of what was asked for, and what was said of it is past.
  call.stop = () => {
    waiting = null;
    open?.abort();
    forget();
  };
  return call;
}
