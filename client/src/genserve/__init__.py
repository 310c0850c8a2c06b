"""Python client and command line of Genserve, a server of image generators.

``Client`` and ``AsyncClient`` send requests; ``calls`` builds them for ``Client.send``. The command
is ``genserve`` (``python -m genserve``). Needs httpx, numpy and Pillow, and nothing of the service.
"""

from genserve import calls
from genserve.client import AsyncClient, Client
from genserve.dataset import Dataset
from genserve.download import Progress
from genserve.errors import (
    AnswerError,
    GenserveError,
    InvalidResponseError,
    ProblemError,
    UnreachableError,
)
from genserve.results import (
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
from genserve.version import __version__

ask = calls  # its name in 0.1

__all__ = [
    "AnswerError",
    "AsyncClient",
    "Client",
    "Dataset",
    "File",
    "GenserveError",
    "Image",
    "Images",
    "InvalidResponseError",
    "ModelCard",
    "ModelList",
    "Posteriors",
    "ProblemError",
    "Progress",
    "Recipe",
    "Status",
    "UnreachableError",
    "Verification",
    "__version__",
    "ask",
    "calls",
]
