"""Accept, as RFC 9110 reads it."""

import pytest

from app.errors import NotAcceptableError
from app.formats.media_types import JSON, NPY, PNG, ZIP
from app.http.negotiation import choose

OFFERS = (PNG, JSON, NPY, ZIP)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", PNG),
        ("*/*", PNG),
        ("application/json", JSON),
        ("APPLICATION/JSON", JSON),
        ("application/x-npy", NPY),
        ("application/zip", ZIP),
        ("application/*", JSON),
        ("image/avif,image/webp,image/png;q=0.8,*/*;q=0.5", PNG),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", PNG),
        ("image/png;q=0.5, application/json;q=0.9", JSON),
        ("*/*, image/png;q=0", JSON),
        ("application/json;q=0.1, image/*;q=0", JSON),
        ("application/json; charset=utf-8", JSON),
        # Names the errors' type alone, as generated clients do: no wish for the response's.
        ("application/problem+json", PNG),
        ("application/problem+json;q=0.5", PNG),
        ("application/problem+json, application/x-npy;q=0.1", NPY),
    ],
)
def test_the_best_offer_is_chosen(accept: str, chosen: str) -> None:
    assert choose(accept, OFFERS) == chosen


@pytest.mark.parametrize(
    "accept", ["text/plain", "image/webp", "image/png;q=0", "*/*;q=0", "image/png;q=x", ";;,"]
)
def test_what_is_not_offered_is_refused_with_what_is(accept: str) -> None:
    if accept == ";;,":  # names no type at all: as good as no header
        assert choose(accept, OFFERS) == PNG
        return
    with pytest.raises(
        NotAcceptableError, match="image/png, application/json, application/x-npy, application/zip"
    ):
        choose(accept, OFFERS)
