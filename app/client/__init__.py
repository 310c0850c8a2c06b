"""Client of the service: ``Client`` and ``AsyncClient``, and ``python -m app.client`` for people.

It needs httpx, numpy and Pillow, and nothing of the service.
"""

from app.client import ask
from app.client.answers import (
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
from app.client.download import Dataset, Progress
from app.client.errors import AnswerError, GenserveError, ProblemError, UnreachableError
from app.client.session import AsyncClient, Client

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
