"""Any number of images as one file."""

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from app.api.bodies.raw import refuse_body
from app.api.common import Endpoint, media_for, service_of
from app.api.parameters.declared import PLAIN, DatasetFormat, MetadataOf, ModelName, Seed
from app.core.dataset_files import Dataset
from app.core.datasets import DatasetGenerator
from app.formats.media_types import NPZ, ZIP
from app.http.middleware import is_head
from app.http.ranges import rest_asked
from app.http.streaming import StreamReply
from app.rendering.caching import etag_matches
from app.rendering.responses import dataset_headers
from app.settings import Settings


def dataset(settings: Settings) -> Endpoint:
    """``settings`` gives the limits that the OpenAPI states."""

    datasets = DatasetGenerator(settings.max_datasets)

    async def dataset(
        request: Request,
        model: ModelName = None,
        label: Annotated[
            str | None,
            Query(
                max_length=64,
                description="class of all images: its name, else its index; none on a conditional "
                "model = every class as often: image i has label i mod classes",
            ),
        ] = None,
        n: Annotated[
            int, Field(ge=1, le=settings.max_dataset_n), PLAIN, Query(description="images")
        ] = min(1000, settings.max_dataset_n),
        seed: Seed = None,
        format: DatasetFormat = None,
        metadata: MetadataOf = "mark",
    ) -> Response:
        """Sample a labelled data set, sent as one file while it is made.

        Image i is the one that /generate gives for seed + i and the same label, and the same
        parameters give the same file. Other requests go first. The connection is cut when something
        fails, so a file that came whole is whole; GET with a seed and a Range header gives the rest
        of one that did not. Every batch has the service's own time limit; X-Timeout-Ms does not
        apply.
        """
        service = service_of(request)
        await refuse_body(request)
        media = media_for(request, format, (ZIP, NPZ))
        made = Dataset(*service.resolve(model, label, n, seed), metadata)
        identity = service.identity(made.model)
        headers = dataset_headers(media, made, seed is not None, identity)
        rest = None
        if "ETag" in headers and request.method == "GET":
            etag, length = headers["ETag"], headers.get("Content-Length")
            tags = request.headers.getlist("if-none-match")
            if tags and etag_matches(", ".join(tags), etag):
                headers.pop("Content-Length", None)
                return Response(status_code=304, headers=headers)
            if not is_head(request.scope):
                asked, if_range = request.headers.get("range"), request.headers.get("if-range")
                rest = rest_asked(asked, if_range, etag, None if length is None else int(length))
        return StreamReply(datasets.archive(service, made, media), media, headers, rest)

    return dataset
