"""POST and GET /dataset: any number of labelled images as one file."""

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from app.api.bodies.raw import refuse_body
from app.api.common import Endpoint, accept_of, not_modified, root_of, service_of
from app.api.parameters.declared import (
    PLAIN,
    Compress,
    DatasetFormat,
    DatasetLabel,
    DatasetSeed,
    DatasetSplit,
    Metadata,
    ModelName,
)
from app.core.datasets.dataset import DatasetGenerator
from app.core.datasets.files import Dataset
from app.formats.media_types import FORMATS, NPZ, ZIP
from app.http.middleware import is_head
from app.http.negotiation import choose
from app.http.ranges import Rest, requested_rest
from app.http.streaming import StreamedResponse
from app.rendering.responses import dataset_headers
from app.settings import Settings


def dataset(settings: Settings) -> Endpoint:
    """The endpoint, with the limits of ``settings``."""
    datasets = DatasetGenerator(settings.max_datasets, settings.max_share)
    default_n = min(1000, settings.max_dataset_n)

    async def dataset(
        request: Request,
        model: ModelName = None,
        label: DatasetLabel = None,
        n: Annotated[
            int,
            Field(ge=1, le=settings.max_dataset_n),
            PLAIN,
            Query(description="Number of images."),
        ] = default_n,
        seed: DatasetSeed = None,
        split: DatasetSplit = None,
        format: DatasetFormat = None,
        metadata: Metadata = "mark",
        compress: Compress = False,
    ) -> Response:
        """Sample a labelled dataset, sent as one file while it is generated.

        The seed opens a stream of seeds, one an image, which the file lists; each image is that of
        /generate for its seed and label. No seed comes twice in a dataset, and none is in two
        splits, whatever the datasets' seeds. The same parameters give the same file. Other requests
        take precedence. If anything fails, the connection is cut, so a
        file that arrived whole is complete. GET with a seed and a Range header resumes a download.
        Each batch has the service's own time limit; X-Timeout-Ms does not apply.
        """
        service = service_of(request)
        await refuse_body(request)
        media = FORMATS[format] if format else choose(accept_of(request), (ZIP, NPZ))
        found, index, (opened,) = service.resolve(model, label, 1, seed)
        requested = Dataset(found, index, opened, n, split or "", metadata, compress)
        headers = dataset_headers(media, requested, seed is not None, service, root_of(request))
        rest = None
        if "ETag" in headers and request.method == "GET":
            if not_modified(request, headers["ETag"]):
                headers.pop("Content-Length", None)
                return Response(status_code=304, headers=headers)
            rest = _rest(request, headers)
        return StreamedResponse(datasets.archive(service, requested, media), media, headers, rest)

    return dataset


def _rest(request: Request, headers: dict[str, str]) -> Rest | None:
    """The part of the file that a Range header asks for; None = the whole file."""
    if is_head(request.scope):
        return None
    length = headers.get("Content-Length")
    return requested_rest(
        request.headers.get("range"),
        request.headers.get("if-range"),
        headers["ETag"],
        None if length is None else int(length),
    )
