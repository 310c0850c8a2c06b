"""Client of the service: ``Client`` and ``AsyncClient``, and ``python -m genserve`` for people.

It needs httpx, numpy and Pillow, and nothing of the service.
"""

from genserve import ask
from genserve.answers import (
    File,
    Image,
    Images,
    ModelCard,
    ModelList,
    Posteriors,
    Recipe,
    Status,
    Verification,
)
from genserve.download import Dataset, Progress
from genserve.errors import AnswerError, GenserveError, ProblemError, UnreachableError
from genserve.session import AsyncClient, Client

__all__ = [
    "AnswerError",
    "AsyncClient",
    "Client",
    "Dataset",
    "File",
    "GenserveError",
    "Image",
    "Images",
    "ModelCard",
    "ModelList",
    "Posteriors",
    "ProblemError",
    "Progress",
    "Recipe",
    "Status",
    "UnreachableError",
    "Verification",
    "ask",
]
