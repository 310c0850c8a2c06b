"""Uploaded pictures, large JSON bodies and large responses through the codec."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from app.codec.jobs import ComparisonJob, EncodingJob, Job, JsonJob, UploadJob
from app.codec.pool import CodecPool, PoolLimits, job_bytes
from app.core.requests import RequestContext
from app.fitting.adapt import Fitting
from app.formats.encoding import PictureEncoding
from app.formats.pixels import Image
from app.formats.reading.comparison import PixelComparison
from app.formats.reading.picture_header import DecodingLimits, megapixels, too_many_pixels
from app.formats.reading.uploads import Upload
from app.settings import DEFAULT_CODEC_MEMORY, Settings

Result = TypeVar("Result")


def codec_memory(settings: Settings) -> int:
    """Bytes of memory that all codec processes of a worker may use."""
    return settings.codec_memory_bytes or DEFAULT_CODEC_MEMORY


def decoding_limits(settings: Settings) -> DecodingLimits:
    """What an upload may be."""
    return DecodingLimits(
        max_side=settings.max_side,
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        max_scans=settings.max_scans,
        max_chunks=settings.max_chunks,
        max_metadata_bytes=settings.max_metadata_bytes,
        max_expansion=settings.max_expansion,
        job_bytes=job_bytes(codec_memory(settings)),
    )


def pool_limits(settings: Settings) -> PoolLimits:
    """What the codec may take."""
    return PoolLimits(
        processes=settings.codec_processes,
        memory=codec_memory(settings),
        queue_jobs=settings.codec_queue,
        queue_bytes=8 * settings.max_body_bytes,
        max_share=settings.max_share,
    )


class Pictures:
    """The service's pictures.

    Args:
        pool: Does the work.
        limits: What an upload may be.
    """

    def __init__(self, pool: CodecPool, limits: DecodingLimits) -> None:
        self.pool = pool
        self._limits = limits

    async def read_uploads(
        self,
        files: Sequence[bytes],
        shape: tuple[int, int, int],
        fitting: Fitting,
        context: RequestContext,
    ) -> list[Upload]:
        """Uploaded files as a model's input.

        Args:
            files: Their pixels together may be ``max_pixels``.
            shape: The model's (C, H, W).
            fitting: How they are adapted.
            context: From ``Service.track_request``.

        Raises:
            UnreadableImageError, BodyTooLargeError: what is wrong with one of them.
            ServiceError, ClientDisconnectedError: as ``CodecPool.run``.
        """
        jobs = [UploadJob.checked(file, shape, self._limits, fitting) for file in files]
        pixels = sum(job.header.width * job.header.height for job in jobs)
        if pixels > self._limits.max_pixels:
            raise too_many_pixels(
                f"the {len(jobs)} pictures have {megapixels(pixels)} together",
                self._limits.max_pixels,
            )
        uploads = []
        for job in jobs:
            uploads.append(await self._run(job, context))
            if len(jobs) > 1:
                await asyncio.sleep(0)  # others have their turn between tiny ones
        return uploads

    async def compare(
        self, file: bytes, expected: Image, scale: int, context: RequestContext
    ) -> PixelComparison | None:
        """Compare a file's pixels with an image; arguments and errors as in ``compare_pixels``."""
        job = ComparisonJob.checked(file, expected, scale, self._limits)
        return await self._run(job, context)

    async def encode(self, encoding: PictureEncoding, context: RequestContext) -> list[bytes]:
        """The bytes of files, as ``PictureEncoding.files``.

        Raises:
            ServiceError, ClientDisconnectedError: as ``CodecPool.run``.
        """
        return await self._run(EncodingJob(encoding), context)

    async def parse_json(self, text: bytes, context: RequestContext) -> Any:
        """The value of a JSON body, as ``compact_json.parse``; base64 in it may be decoded.

        Raises:
            MalformedBodyError, InvalidParameterError: as ``compact_json.packed``.
            ServiceError, ClientDisconnectedError: as ``CodecPool.run``.
        """
        return await self._run(JsonJob(text, self._limits.job_bytes), context)

    async def _run(self, job: Job[Result], context: RequestContext) -> Result:
        who = context.disconnected, context.client
        return await self.pool.run(job, context.deadline, *who)
