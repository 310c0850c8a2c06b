"""One request on its way through the service, and what it may not ask."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from app.batching.ticket import Timing
from app.engines.rows import Image, Sample, samples_from_seeds, takes_truncation
from app.engines.store import StoredModel
from app.errors import InvalidParameterError
from app.seeds import MAX_SEED

TIMEOUT_HEADER = "X-Timeout-Ms"

# Seconds that the present request had waited for its turn before it began; they count.
waited_s: ContextVar[float] = ContextVar("waited_s", default=0.0)


class RequestContext(NamedTuple):
    """Who waits for a request, and for how long."""

    deadline: float  # on the batcher's clock
    disconnected: Callable[[], bool] | None = None  # whether the client has disconnected
    client: str | None = None  # as ``clients`` names it
    trace: object = None  # as ``tracing`` has it


class GenerateRequest(NamedTuple):
    """A checked request for images."""

    model: StoredModel
    label: int | None  # None = no label, or on a conditional model one drawn from each seed
    seeds: Sequence[int]  # one an image
    context: RequestContext
    truncation: float = 1.0  # as in ``Sample``

    def samples(self) -> list[Sample]:
        """One row an image, each with the label given or drawn for it."""
        if len(self.seeds) == 1 and self.label is not None:  # the usual request
            return [Sample(self.seeds[0], self.label, self.truncation)]
        classes = self.model.network.num_classes
        return samples_from_seeds(self.seeds, self.label, classes, self.truncation)


class Generated(NamedTuple):
    """Images with the rows they were generated from."""

    images: list[Image]
    samples: list[Sample]
    timing: Timing


def check_truncation(model: StoredModel) -> None:
    """Refuse truncation for a model that has no mean to move its latents to.

    Raises:
        InvalidParameterError
    """
    if not takes_truncation(model.network):
        raise InvalidParameterError(
            f"{model.name} takes no truncation: its latents cannot be moved towards a mean",
            errors=[{"pointer": "?truncation", "detail": "not for this model"}],
        )


def check_seeds(seed: int, count: int) -> None:
    """Refuse a run of seeds that leaves their range.

    Raises:
        InvalidParameterError
    """
    if seed + count - 1 > MAX_SEED:
        raise InvalidParameterError(
            f"seed is {seed} for {count} images: the last one's seed would be over {MAX_SEED}",
            errors=[{"pointer": "?seed", "detail": f"at most {MAX_SEED + 1 - count}"}],
        )
