"""What a request of /generate asks for, whichever path it takes, and its images as a response."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from app.batching.ticket import Timing
from app.core.pieces import joined
from app.core.requests import GenerateRequest, RequestContext
from app.core.service import Service
from app.engines.rows import Sample
from app.formats.pixels import Image
from app.rendering.lineage import ResponseMetadata, generate_metadata
from app.rendering.options import Rendering, check_size
from app.rendering.responses import EncodedResponse, body_parts, finished, picture_encoding


class ImageQuery(NamedTuple):
    """The parameters of a request for images."""

    model: str | None = None
    label: str | None = None
    n: int = 1
    seed: int | None = None
    seeds: tuple[int, ...] | None = None  # instead of ``n`` and ``seed``
    truncation: float = 1.0
    rendering: Rendering = Rendering()

    @property
    def seeded(self) -> bool:
        """Whether it names seeds."""
        return self.seed is not None or self.seeds is not None

    @property
    def pinned(self) -> bool:
        """Whether it names its model's digest."""
        return self.model is not None and "@" in self.model

    def request(self, service: Service, context: RequestContext) -> GenerateRequest:
        """The checked request.

        Raises:
            ServiceError: as ``Service.generate_request`` and ``check_size``.
        """
        model, label, n, seed, seeds, truncation, rendering = self
        request = service.generate_request(model, label, n, seed, context, seeds, truncation)
        check_size(rendering, request.model.network.image_shape, len(request.seeds))
        return request

    def metadata(
        self, service: Service, request: GenerateRequest, samples: Sequence[Sample], root: str
    ) -> ResponseMetadata:
        """What the response says of its images.

        Args:
            service: Grades the models.
            request: What ``request`` returned.
            samples: ``request.samples()``.
            root: Path under which clients find the service.
        """
        about = self.rendering, self.seeded, self.pinned, service, root
        return generate_metadata(request, samples, *about)


async def render(
    service: Service,
    rendering: Rendering,
    images: Sequence[Image],
    metadata: ResponseMetadata,
    timing: Timing,
    context: RequestContext,
) -> EncodedResponse:
    """The response with the images; what takes long to encode is encoded elsewhere, or in pieces.

    Raises:
        ServiceError, ClientDisconnectedError: as ``CodecPool.run``.
    """
    started = time.perf_counter()
    encoding = picture_encoding(rendering, images, metadata)
    files = await service.pictures.encode(encoding, context) if encoding else ()
    parts = body_parts(rendering, images, metadata, files)
    body = await joined(parts, context, service.batcher.clock)
    return finished(rendering, images, metadata, timing, body, time.perf_counter() - started)
