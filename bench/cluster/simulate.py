"""``python -m bench simulate``: more replicas than a machine has, on a clock moved by hand.

Each replica is the service's own ``Admission``, ``Scheduler`` and fair queues. What is not real is
the time that a call takes (a measured cost curve), the load balancer (of two replicas at random the
one with fewer open requests) and the autoscaler (a rule on the predicted wait, as an HPA has it).
"""

import argparse
import heapq
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from app.batching.admission import Admission, OverloadError
from app.batching.operation_queue import OperationQueue, QueueConfig
from app.batching.scheduler import Scheduler
from app.batching.ticket import BatchRequest
from app.settings import Settings

KEY = "generate"
# Measured on one core with mnist-cgan-v6: milliseconds by rows (/status), and of a request around
# the model (docs/explanation/scaling.md).
COSTS_MS = ((1, 0.138), (2, 0.214), (4, 0.372), (8, 0.827), (16, 1.458), (32, 2.605))
REQUEST_MS = 0.23
MAX_BATCH = 32
TIMEOUT_S = 30.0
AIM_S = 0.02  # predicted wait that the autoscaler keeps, as deploy/kubernetes/hpa.yaml

Request = BatchRequest[int, int]
Action = Callable[[], None]


def call_s(rows: int, requests: int) -> float:
    """Seconds of one call: the smallest measured size that holds the rows, and the requests that
    begin in it."""
    return next(ms for size, ms in COSTS_MS if size >= rows) / 1e3 + requests * REQUEST_MS / 1e3


class Clock:
    """The time, and what is to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Action]] = []
        self._order = count()

    def at(self, time: float, action: Action) -> None:
        """Do something at a time."""
        heapq.heappush(self._events, (time, next(self._order), action))

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            action()


@dataclass
class Tally:
    """What happened to requests."""

    asked: int = 0  # images
    answered: int = 0  # images
    refused: int = 0  # requests
    requests: int = 0
    lost: int = 0  # requests without an answer
    durations: list[float] = field(default_factory=list)  # seconds from arrival to answer
    by_client: dict[int, list[int]] = field(default_factory=dict)  # images asked for, and answered


class Replica:
    """One process of one core.

    Args:
        clock: The time.
        on_answer: Called with a request that has all its results.
        settings: Of the service.
    """

    def __init__(
        self, clock: Clock, on_answer: Callable[[Request], None], settings: Settings
    ) -> None:
        self._clock, self._on_answer = clock, on_answer
        config = QueueConfig(MAX_BATCH, MAX_BATCH / call_s(MAX_BATCH, 1))
        self._queues: dict[str, OperationQueue[Request]] = {KEY: OperationQueue(config)}
        self.admission: Admission[str, Request] = Admission(
            self._queues,
            settings.queue_limit,
            settings.max_queue_ms / 1e3,
            settings.max_share,
            settings.queue_target_ms / 1e3,
        )
        self._scheduler = Scheduler(self._queues, 0.0)
        self.open: set[Request] = set()
        self._busy = False
        self.alive = True

    def ask(self, client: int, images: int) -> Request:
        """Queue a request.

        Raises:
            OverloadError
        """
        now = self._clock.now
        self.admission.check(KEY, images, now, TIMEOUT_S, not self.open, client)
        request: Request = BatchRequest(
            waiting=images,
            client=client,
            key=KEY,
            rows=range(images),
            arrived=now,
            deadline=now + TIMEOUT_S,
            due=now,
            on_fail=lambda _: None,
            on_end=self._on_answer,
        )
        self.open.add(request)
        self._scheduler.add(request, KEY, now)
        if not self._busy:
            self._call()
        return request

    def _call(self) -> None:
        now = self._clock.now
        pieces = self._scheduler.take(KEY, now)
        self._busy = bool(pieces)
        if not pieces:
            return
        rows = sum(len(part) for _, part in pieces)
        first = sum(request.waiting + len(part) == len(request.rows) for request, part in pieces)
        seconds = call_s(rows, first)
        self.admission.call_ends = now + seconds

        def end() -> None:
            if not self.alive:
                return
            self._queues[KEY].service_rate.observe(rows, seconds)
            for request, part in pieces:
                if request.add_results(list(part), seconds, rows):
                    self.open.discard(request)
                    request.on_end(request)
            self._call()

        self._clock.at(now + seconds, end)


class Cluster:
    """Replicas behind a load balancer.

    Args:
        replicas: At the start.
        seed: Of everything random.
        settings: Of the service.
    """

    def __init__(self, replicas: int, seed: int, settings: Settings | None = None) -> None:
        self.clock, self.tally = Clock(), Tally()
        self._settings = settings or Settings()
        self._random = random.Random(seed)
        self.replicas: list[Replica] = []
        self.grow(replicas)

    def grow(self, count: int) -> None:
        """Add replicas."""
        more = (Replica(self.clock, self._answered, self._settings) for _ in range(count))
        self.replicas.extend(more)

    def kill(self, count: int) -> None:
        """End replicas; the balancer sends what they had to others."""
        for _ in range(min(count, len(self.replicas) - 1)):
            dead = self.replicas.pop(self._random.randrange(len(self.replicas)))
            dead.alive = False
            for request in dead.open:
                self._send(int(str(request.client)), len(request.rows), request.arrived)

    def ask(self, client: int, images: int) -> None:
        """A request arrives now."""
        self.tally.requests += 1
        self.tally.asked += images
        self.tally.by_client.setdefault(client, [0, 0])[0] += images
        self._send(client, images, self.clock.now)

    def _send(self, client: int, images: int, arrived: float) -> None:
        two = self._random.choices(self.replicas, k=2)
        replica = min(two, key=lambda one: len(one.open))
        try:
            replica.ask(client, images).arrived = arrived
        except OverloadError:
            self.tally.refused += 1

    def _answered(self, request: Request) -> None:
        tally, images = self.tally, len(request.rows)
        tally.answered += images
        tally.by_client[int(str(request.client))][1] += images
        tally.durations.append(self.clock.now - request.arrived)

    def arrivals(self, rates: Sequence[tuple[float, float, float, int]], images: int) -> None:
        """Poisson arrivals of clients.

        Args:
            rates: From when, until when, requests a second, and the client: -1 = one of a hundred.
            images: Of a request.
        """

        def one(until: float, rate: float, client: int) -> None:
            if self.clock.now < until:
                self.ask(self._random.randrange(100) if client < 0 else client, images)
                wait = self._random.expovariate(rate)
                self.clock.at(self.clock.now + wait, lambda: one(until, rate, client))

        for begin, until, rate, client in rates:
            self.clock.at(begin, lambda u=until, r=rate, c=client: one(u, r, c))  # type: ignore[misc]

    def autoscale(self, until: float, most: int, aim_s: float, start_s: float) -> None:
        """Every 15 s: as many replicas as would bring the mean predicted wait to ``aim_s``, at most
        twice those that there are; new ones serve after ``start_s``."""

        def look() -> None:
            now, have = self.clock.now, len(self.replicas)
            wait = statistics.fmean(r.admission.wait_s(now) for r in self.replicas)
            wanted = min(most, 2 * have, math.ceil(have * max(1.0, wait / aim_s)))
            if wanted > have:
                self.clock.at(now + start_s, lambda: self.grow(wanted - have))
            if now + 15 < until:
                self.clock.at(now + 15, look)

        self.clock.at(15.0, look)


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 = all have the same share, 1/n = one has everything."""
    square = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * square) if square else 1.0


def centile(values: list[float], percent: float) -> float:
    """0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


Scenario = Literal["steady", "edge", "overload", "burst", "flood", "deaths", "autoscaling"]
ABOUT: dict[Scenario, str] = {
    "steady": "80 % of what the replicas can do",
    "edge": "120 % of it, from a hundred clients alike",
    "overload": "twice what they can do, from a hundred clients alike",
    "burst": "50 %, and four times as much for a tenth of the time",
    "flood": "50 % from a hundred clients, and one that asks for as much as all replicas can do",
    "deaths": "70 %; a tenth of the replicas is killed at half time, and replaced a quarter later",
    "autoscaling": "load triples; replicas are added by the predicted wait and start in 20 s",
}


def capacity(images: int) -> float:
    """Requests a second of so many images that keep one replica busy."""
    together = max(1, MAX_BATCH // images)  # in a call
    calls = -(-images // MAX_BATCH)
    return together / (calls * call_s(min(images * together, MAX_BATCH), together))


def simulate(scenario: Scenario, replicas: int, seconds: float, images: int, seed: int) -> Cluster:
    """Run a scenario to its end.

    Args:
        scenario: Its name.
        replicas: At the start.
        seconds: Of arrivals.
        images: Of a request.
        seed: The same one gives the same figures.
    """
    cluster = Cluster(replicas, seed)
    rate = replicas * capacity(images)
    load: dict[Scenario, list[tuple[float, float, float, int]]] = {
        "steady": [(0, seconds, 0.8 * rate, -1)],
        "edge": [(0, seconds, 1.2 * rate, -1)],
        "overload": [(0, seconds, 2 * rate, -1)],
        "burst": [
            (0, seconds, 0.5 * rate, -1),
            (0.4 * seconds, 0.5 * seconds, 1.5 * rate, -1),
        ],
        "flood": [(0, seconds, 0.5 * rate, -1), (0, seconds, rate, 1000)],
        "deaths": [(0, seconds, 0.7 * rate, -1)],
        "autoscaling": [(0, 30, 0.5 * rate, -1), (30, 30 + seconds, 1.5 * rate, -1)],
    }
    cluster.arrivals(load[scenario], images)
    if scenario == "deaths":
        lost = replicas // 10
        cluster.clock.at(seconds / 2, lambda: cluster.kill(lost))
        cluster.clock.at(seconds * 3 / 4, lambda: cluster.grow(lost))
    if scenario == "autoscaling":
        cluster.autoscale(30 + seconds, 4 * replicas, AIM_S, 20.0)
    cluster.clock.run()
    tally = cluster.tally
    tally.lost = tally.requests - tally.refused - len(tally.durations)
    return cluster


def row(scenario: Scenario, cluster: Cluster, seconds: float) -> Iterator[str]:
    """The cells of a scenario's line."""
    tally = cluster.tally
    ordinary = [given / asked for who, (asked, given) in tally.by_client.items() if who < 1000]
    yield scenario
    yield f"{tally.asked / seconds:,.0f}"
    yield f"{tally.answered / seconds:,.0f}"
    yield f"{tally.refused / tally.requests:.1%}"
    yield f"{statistics.fmean(ordinary):.1%}"
    yield f"{jain(ordinary):.3f}"
    for percent in (50, 99):
        yield f"{centile(tally.durations, percent) * 1e3:,.1f}"
    yield f"{tally.lost}"
    yield f"{len(cluster.replicas)}"


HEADS = (
    *("Scenario", "Images/s asked", "answered", "Requests refused", "Clients' images answered"),
    *("Jain's index", "Answered in p50 ms", "p99 ms", "Lost", "Replicas at the end"),
)


def main(arguments: list[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        "python -m bench simulate", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="none = all")
    parser.add_argument("--replicas", type=int, default=1000, help="processes of one core each")
    parser.add_argument("--seconds", type=float, default=1, help="of arrivals")
    parser.add_argument("--images", type=int, default=64, help="of a request")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and of the balancer")
    args = parser.parse_args(arguments)
    if unknown := set(args.scenarios) - set(ABOUT):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(ABOUT)}")
    print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}", flush=True)
    for scenario in args.scenarios or ABOUT:
        replicas, seconds = args.replicas, args.seconds
        if scenario == "autoscaling":  # minutes of arrivals, so of fewer replicas
            replicas, seconds = max(2, replicas // 250), 90 * seconds
        cluster = simulate(scenario, replicas, seconds, args.images, args.seed)
        end = seconds + 30 * (scenario == "autoscaling")
        print(f"| {' | '.join(row(scenario, cluster, end))} |", flush=True)
