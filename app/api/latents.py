"""Pictures to latents, and back."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Query, Request, Response

from app.api.bodies.latents import read_latents
from app.api.common import Endpoint, media_for, rendered, service_of, uploaded
from app.api.parameters.declared import (
    Center,
    EncoderName,
    Format,
    FrameMs,
    Invert,
    LayoutOf,
    MetadataOf,
    Scale,
    Seed,
    Timeout,
)
from app.engines.rows import Latent, Posterior
from app.formats.uploads import Upload, fitting_for, summary
from app.http.disconnect import client_disconnected
from app.rendering.lineage import reconstruction_metadata, seedless_metadata
from app.rendering.options import FRAME_MS, Rendering, check_size
from app.rendering.schemas import PictureNote, PosteriorItem, PosteriorList
from app.seeds import normals
from app.settings import Settings


def encode(settings: Settings) -> Endpoint:
    """``settings`` gives the limits that the OpenAPI states."""

    async def encode(
        request: Request,
        response: Response,
        model: EncoderName = None,
        seed: Seed = None,
        invert: Invert = "auto",
        center: Center = "auto",
        timeout_ms: Timeout = None,
    ) -> Any:
        """Pictures in, their places in the latent space out: mean, log-variance, and a draw z."""
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            encoder = service.selector.encoder(model)
            how = fitting_for(encoder.description.data, invert, center)
            pictures = await uploaded(request, encoder, how, settings)
            if seed is not None:
                service.check_seeds(seed, len(pictures))
            images = [picture.image for picture in pictures]
            posteriors, _ = await service.encode(encoder, images, context)
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Model"] = encoder.name
            response.headers["X-Picture"] = summary(pictures)
            items = _posterior_items(posteriors, pictures, seed)
            return PosteriorList(model=encoder.name, seed=seed, items=items)

    return encode


def decode(settings: Settings) -> Endpoint:
    """``settings`` gives the limits that the OpenAPI states."""

    async def decode(
        request: Request,
        model: EncoderName = None,
        format: Format = None,
        scale: Scale = 1,
        layout: LayoutOf = "grid",
        frame_ms: FrameMs = FRAME_MS,
        metadata: MetadataOf = "full",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Latents in, pictures out."""
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            decoder = service.selector.encoder(model)
            rendering = Rendering(media_for(request, format), scale, layout, metadata, frame_ms)
            latents = await read_latents(
                request, settings.max_body_bytes, decoder.network.latent_dim, settings.max_n
            )
            check_size(rendering, decoder.network.image_shape, len(latents))
            images, timing = await service.decode(decoder, latents, context)
            lineage = seedless_metadata(decoder, len(images), rendering)
            return await rendered(rendering, images, lineage, timing)

    return decode


def reconstruct(settings: Settings) -> Endpoint:
    """``settings`` gives the limits that the OpenAPI states."""

    async def reconstruct(
        request: Request,
        model: EncoderName = None,
        format: Format = None,
        scale: Scale = 1,
        layout: LayoutOf = "grid",
        frame_ms: FrameMs = FRAME_MS,
        metadata: MetadataOf = "full",
        show: Annotated[
            Literal["reconstruction", "beside", "error"],
            Query(
                description="of a PNG or WebP: the reconstructions alone; a row a picture with the "
                "picture, as the model takes it, beside it; and with their difference as well, "
                "white where it is 1 (0 = the same)"
            ),
        ] = "reconstruction",
        invert: Invert = "auto",
        center: Center = "auto",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Encode pictures, then decode their means: what the model keeps of them."""
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            encoder = service.selector.encoder(model)
            rendering = Rendering(media_for(request, format), scale, layout, metadata, frame_ms)
            how = fitting_for(encoder.description.data, invert, center)
            pictures = await uploaded(request, encoder, how, settings)
            columns = {"reconstruction": None, "beside": 2, "error": 3}[show]
            tiles = len(pictures) * (columns or 1)
            check_size(rendering, encoder.network.image_shape, tiles, columns)
            originals = [picture.image for picture in pictures]
            posteriors, _ = await service.encode(encoder, originals, context)
            means = [mu for mu, _ in posteriors]
            images, timing = await service.decode(encoder, means, context)
            lineage = reconstruction_metadata(encoder, pictures, images, rendering, columns)
            return await rendered(rendering, images, lineage, timing)

    return reconstruct


def _posterior_items(
    posteriors: list[Posterior], pictures: list[Upload], seed: int | None
) -> list[PosteriorItem]:
    items = []
    for index, ((mu, logvar), picture) in enumerate(zip(posteriors, pictures, strict=True)):
        z: Latent = mu
        if seed is not None:
            number = np.array([seed + index], dtype=np.uint64)
            z = mu + np.exp(logvar / 2) * normals(number, len(mu))[0]
        items.append(
            PosteriorItem(
                mu=mu.tolist(),
                logvar=logvar.tolist(),
                z=z.tolist(),
                picture=PictureNote.of(picture),
            )
        )
    return items
