"""``POST /dataset``: images a second of a stream, beside M."""

import http.client
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench import rig
from bench.children import HOST, BenchError
from bench.generator import BATCH
from bench.report import MODEL, Result, Samples
from bench.rounds import rounds

FORMATS = ("npz", "zip")
CHUNK = 2**18


class AbsentError(BenchError):
    """The service has no such route."""


def fetch(port: int, path: str) -> float:
    """Seconds from the request to the last byte of one stream.

    Raises:
        AbsentError: 404.
        BenchError: another status, or the stream broke off.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=120)
    try:
        began = time.monotonic()
        connection.request("POST", path)
        answer = connection.getresponse()
        if answer.status == 404:
            raise AbsentError(f"no such route: POST {path.partition('?')[0]}")
        if answer.status != 200:
            raise BenchError(f"POST {path} gave {answer.status} {answer.read(300)!r}")
        while answer.read(CHUNK):
            pass
        return time.monotonic() - began
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"POST {path} broke off: {error!r}") from error
    finally:
        connection.close()


def run(args: Namespace) -> Result:
    """Images a second of as many streams at once as workers, for each format."""
    samples: Samples = {}
    streams: int = args.floor_workers
    with ExitStack() as stack:
        folder = rig.folder(stack)
        ours = rig.Service(stack, folder, args)
        fetch(ours.port, "/dataset?n=1&format=npz")
        model = rig.Generators(stack, folder, args.models_dir, ours.model, streams)
        pool = stack.enter_context(ThreadPoolExecutor(streams))
        n = 4096
        for number, kind, seconds in rounds([*FORMATS, MODEL], args):
            if kind == MODEL:
                rate = model.run(BATCH, seconds)["per_s"]
                n = max(64, round(rate * seconds / streams))  # as long as the others, about
            else:
                path = f"/dataset?n={n}&format={kind}&label={args.label}"
                took = max(pool.map(lambda _, path=path: fetch(ours.port, path), range(streams)))
                rate = n * streams / took
            if number:
                samples.setdefault(f"{kind}, images/s", []).append(rate)
        for kind in FORMATS:
            pairs = zip(samples[f"{kind}, images/s"], samples[f"{MODEL}, images/s"], strict=True)
            samples[f"{kind} / M"] = [rate / most for rate, most in pairs]
    return Result("dataset", {"model": ours.model, "streams": streams}, samples)
