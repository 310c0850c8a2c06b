"""POST /encode, /decode and /reconstruct: pictures to latents and back, on a VAE."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from fastapi import Depends, Query, Request, Response

from app.api.bodies.latents import read_latents
from app.api.bodies.pictures import read_pictures
from app.api.common import Endpoint, rendering_of, service_of
from app.api.parameters.declared import (
    ClassLabel,
    EncoderName,
    FittingQuery,
    RenderingQuery,
    Seed,
    TimeoutMs,
)
from app.core.interpolation import draw
from app.core.pieces import joined
from app.core.requests import check_seeds
from app.core.service import fits_of
from app.engines.rows import Latent, Posterior, has_posterior
from app.errors import InvalidParameterError
from app.fitting.adapt import fitting_for
from app.formats.media_types import JSON
from app.formats.reading.uploads import Upload, summary
from app.http.disconnect import client_disconnected
from app.rendering.image_query import render
from app.rendering.lineage import fit_header, reconstruction_metadata, seedless_metadata
from app.rendering.options import check_size
from app.rendering.schemas import PictureNote, PosteriorItem, PosteriorList, list_parts
from app.settings import Settings


def encode(settings: Settings) -> Endpoint:
    """The endpoint, with the limits of ``settings``."""

    async def encode(
        request: Request,
        fitting: FittingQuery,
        model: EncoderName = None,
        label: ClassLabel = None,
        seed: Seed = None,
        timeout_ms: TimeoutMs = None,
    ) -> Response:
        """Encode pictures: the mean, log-variance and a sample z of each posterior."""
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            encoder = service.selector.encoder(model)
            index = service.selector.class_of(encoder, label)
            if seed is not None and not has_posterior(encoder.network):
                raise InvalidParameterError(
                    f"{encoder.name} encodes a picture to one latent, not to a distribution to "
                    "draw from with a seed",
                    errors=[{"pointer": "?seed", "detail": "not for this model"}],
                )
            how = fitting_for(encoder.description.data, *fitting)
            limit, codec = settings.max_body_bytes, service.pictures
            files = await read_pictures(request, limit, settings.max_n, codec, context)
            shape = encoder.network.image_shape
            uploads = await service.pictures.read_uploads(files, shape, how, context)
            if seed is not None:
                check_seeds(seed, len(uploads))
            images = [upload.image for upload in uploads]
            posteriors, _ = await service.encode(encoder, images, _each(index, images), context)
            means = [mu for mu, _ in posteriors]
            fits = await service.fits(encoder, images, means, context)
            headers = {"X-Model": encoder.name, "X-Picture": summary(uploads), **fit_header(fits)}
            items = _posterior_items(posteriors, uploads, fits, seed)
            whole = PosteriorList(model=encoder.name, seed=seed, items=[])
            body = await joined(list_parts(whole, items), context, service.batcher.clock)
            headers["Cache-Control"] = "no-store"
            return Response(body, media_type=JSON, headers=headers)

    return encode


def decode(settings: Settings) -> Endpoint:
    """The endpoint, with the limits of ``settings``."""

    async def decode(
        request: Request,
        options: RenderingQuery,
        model: EncoderName = None,
        label: ClassLabel = None,
        timeout_ms: TimeoutMs = None,
    ) -> Response:
        """Decode latents to images."""
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            decoder = service.selector.decoder(model)
            index = service.selector.class_of(decoder, label)
            rendering = rendering_of(request, options)
            limit, dim = settings.max_body_bytes, decoder.network.latent_dim
            codec = service.pictures
            latents = await read_latents(request, limit, dim, settings.max_n, codec, context)
            check_size(rendering, decoder.network.image_shape, len(latents))
            images, timing = await service.decode(decoder, latents, _each(index, latents), context)
            metadata = seedless_metadata(decoder, len(images), rendering)
            return await render(service, rendering, images, metadata, timing, context)

    return decode


def _columns(
    show: Annotated[
        Literal["reconstruction", "beside", "error"],
        Query(
            description="What a PNG or WebP shows. reconstruction: the reconstructions alone. "
            "beside: one row per picture, with the model's input and its reconstruction. error: "
            "also their absolute difference; black is none, white is 1."
        ),
    ] = "reconstruction",
) -> int | None:
    """Columns of a sheet of reconstructions; None = a grid of reconstructions alone."""
    return {"reconstruction": None, "beside": 2, "error": 3}[show]


def reconstruct(settings: Settings) -> Endpoint:
    """The endpoint, with the limits of ``settings``."""

    async def reconstruct(
        request: Request,
        options: RenderingQuery,
        columns: Annotated[int | None, Depends(_columns)],
        fitting: FittingQuery,
        model: EncoderName = None,
        label: ClassLabel = None,
        timeout_ms: TimeoutMs = None,
    ) -> Response:
        """Encode pictures and decode the means: what the model retains of them."""
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            encoder = service.selector.encoder(model)
            index = service.selector.class_of(encoder, label)
            rendering = rendering_of(request, options)
            how = fitting_for(encoder.description.data, *fitting)
            limit, codec = settings.max_body_bytes, service.pictures
            files = await read_pictures(request, limit, settings.max_n, codec, context)
            shape = encoder.network.image_shape
            uploads = await service.pictures.read_uploads(files, shape, how, context)
            tiles = len(uploads) * (columns or 1)
            check_size(rendering, encoder.network.image_shape, tiles, columns)
            originals = [upload.image for upload in uploads]
            labels = _each(index, originals)
            posteriors, _ = await service.encode(encoder, originals, labels, context)
            means = [mu for mu, _ in posteriors]
            images, timing = await service.decode(encoder, means, labels, context)
            fits = fits_of(encoder, originals, images, means)
            metadata = reconstruction_metadata(encoder, uploads, fits, images, rendering, columns)
            return await render(service, rendering, images, metadata, timing, context)

    return reconstruct


def _each(index: int | None, rows: Sequence[object]) -> list[int] | None:
    """The same label for every row; None = the model takes none."""
    return None if index is None else [index] * len(rows)


def _posterior_items(
    posteriors: Sequence[Posterior],
    uploads: Sequence[Upload],
    fits: Sequence[float] | None,
    seed: int | None,
) -> Iterator[PosteriorItem]:
    """The response of /encode; z is drawn with the noise of ``seed`` + index, None = the mean."""
    for index, ((mu, logvar), upload) in enumerate(zip(posteriors, uploads, strict=True)):
        z: Latent = mu
        if seed is not None and logvar is not None:
            z = draw(mu, logvar, seed + index)
        yield PosteriorItem(
            mu=mu.tolist(),
            logvar=None if logvar is None else logvar.tolist(),
            z=z.tolist(),
            picture=PictureNote.of(upload),
            fit=fits[index] if fits else None,
        )
