"""The bytes of request bodies that a process holds at a time: bounded, and shared among clients."""

from collections import Counter
from collections.abc import Hashable

from app.errors import OverloadedError, OverShareError


class BodyBudget:
    """See the module.

    Args:
        limit: Bytes of all bodies together.
        max_share: Of the bytes that other clients leave, how many one client may hold (dynamic
            thresholds, as in ``app.batching.admission``); with nothing held, it may take all.
    """

    def __init__(self, limit: int, max_share: float) -> None:
        self._limit = limit
        self._max_share = max_share
        self._held: Counter[Hashable] = Counter()
        self._total = 0

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._total

    def take(self, client: Hashable, size: int) -> None:
        """A client sends so many bytes more.

        Raises:
            OverShareError, OverloadedError: there is no room for them; nothing is taken.
        """
        own, total = self._held[client], self._total + size
        others = self._total - own
        if (
            client is not None
            and self._max_share < 1
            and total > self._max_share * self._limit
            and 0 < own > self._max_share * (self._limit - others) - size
        ):
            raise OverShareError.of_bodies(own, self._limit)
        if total > self._limit:
            raise OverloadedError(
                f"request bodies of {self._total} bytes are under way, and this process takes "
                f"{self._limit} at a time; try again in 1 s",
                headers={"Connection": "close"},
                retry_after_s=1,
            )
        self._held[client] += size
        self._total = total

    def give_back(self, client: Hashable, size: int) -> None:
        """So many bytes of a client's are not held any more."""
        self._total -= size
        self._held[client] -= size
        if not self._held[client]:
            del self._held[client]
