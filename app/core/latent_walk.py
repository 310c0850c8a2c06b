"""The latents of /interpolate and /traverse, and the images at them.

The latents are the noise of a model's seeds. With a latent or a picture among the sources, a VAE's
are the z of /encode and /decode instead, and a seed stands for the z that its image is encoded to.
A VAE with a learned prior computes z from the noise, so the two differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.batching.ticket import Timing
from app.core.requests import RequestContext, check_truncation
from app.core.service import Service
from app.engines.rows import Image, Latent, Point, Sample, truncated
from app.engines.store import StoredModel
from app.errors import InvalidParameterError, WrongModelError
from training.networks.latents import label_draws
from training.networks.noise import latents_of_seeds

LatentSource = int | Latent | bytes  # a seed, a latent, a picture's file


def liveliest_axes(model: StoredModel, count: int) -> tuple[int, ...]:
    """The axes that change an image most, as far as that is known.

    They are those of most KL where the model's card has the figures, else the first.

    Source: Higgins et al. 2017, beta-VAE.
    """
    most = min(count, model.network.latent_dim)
    nats = model.description.metrics.get("kl_per_dimension_nats")
    if not isinstance(nats, list) or len(nats) != model.network.latent_dim:
        return tuple(range(most))
    return tuple(sorted(range(len(nats)), key=lambda axis: -nats[axis])[:most])


@dataclass(frozen=True, slots=True)
class Walk:
    """The checked sources of a path or a traversal."""

    model: StoredModel
    label: int | None
    sources: Sequence[LatentSource]
    truncation: float  # of the seeds among them, as in ``Sample``
    in_z: bool  # the latents are a VAE's z, not the noise of seeds

    @property
    def by_seeds(self) -> bool:
        """Whether seeds alone decide the images."""
        return all(isinstance(source, int) for source in self.sources)

    @property
    def shows_upload(self) -> bool:
        """Whether an uploaded picture is among the sources."""
        return bool(self.files)

    @property
    def files(self) -> list[bytes]:
        """The uploaded pictures."""
        return [source for source in self.sources if isinstance(source, bytes)]

    async def latents(
        self, service: Service, pictures: Sequence[Image], context: RequestContext
    ) -> list[Latent]:
        """The latent (Z,) of each source.

        Args:
            service: Encodes pictures, and images of seeds.
            pictures: ``files`` as the model's input.
            context: From ``Service.track_request``.
        """
        numbers = [source for source in self.sources if isinstance(source, int)]
        of_seeds: Sequence[Latent] = ()
        if numbers and not self.in_z:
            network = self.model.network
            noise = latents_of_seeds(network, numbers)
            of_seeds = list(truncated(network, noise, [self.truncation] * len(numbers)))
        elif numbers:
            samples = [Sample(number, self.label, self.truncation) for number in numbers]
            images, _ = await service.sample(self.model, samples, context)
            pictures = [*images, *pictures]
        of_pictures: list[Latent] = []
        if pictures:
            labels = None if self.label is None else [self.label] * len(pictures)
            posteriors, _ = await service.encode(self.model, pictures, labels, context)
            of_pictures = [mu for mu, _ in posteriors]
        if self.in_z:
            of_seeds = of_pictures[: len(numbers)]
            of_pictures = of_pictures[len(numbers) :]
        next_seed, next_picture = iter(of_seeds), iter(of_pictures)
        latents = []
        for source in self.sources:
            if isinstance(source, int):
                latents.append(next(next_seed))
            else:
                latents.append(next(next_picture) if isinstance(source, bytes) else source)
        return latents

    async def fits(
        self,
        service: Service,
        pictures: Sequence[Image],
        latents: Sequence[Latent],
        context: RequestContext,
    ) -> list[float] | None:
        """How well each uploaded picture fits, as ``Service.fits``.

        Args:
            pictures: ``files`` as the model's input.
            latents: Of each source.
        """
        pairs = zip(self.sources, latents, strict=True)
        means = [latent for source, latent in pairs if isinstance(source, bytes)]
        return await service.fits(self.model, pictures, means, context)

    async def images(
        self, service: Service, latents: Sequence[Latent], context: RequestContext
    ) -> tuple[list[Image], Timing]:
        """The images at latents."""
        if self.in_z:
            labels = None if self.label is None else [self.label] * len(latents)
            return await service.decode(self.model, latents, labels, context)
        return await service.sample(self.model, [Point(z, self.label) for z in latents], context)


def resolve_walk(
    service: Service,
    name: str | None,
    label: str | None,
    sources: Sequence[LatentSource],
    truncation: float,
    always_z: bool = False,
) -> Walk:
    """Check sources and find their model.

    Args:
        service: Has the models.
        name: Model; None = that of /generate where there are only seeds or a label is given, else
            the default encoder.
        label: Class index or name, one for all; None on a conditional model = the one drawn from
            the first seed.
        sources: At least one.
        truncation: Of the seeds, as in ``Sample``.
        always_z: Whether a VAE's latents are z even if there are only seeds.

    Raises:
        ServiceError: no such model or label, a latent of another length, or a picture for a model
            that cannot encode.
    """
    numbers = [source for source in sources if isinstance(source, int)]
    files = [source for source in sources if isinstance(source, bytes)]
    if files or (name is None and label is None and len(numbers) < len(sources)):
        model = service.selector.encoder(name)
        index = None if label is None else service.selector.class_of(model, label)
    else:
        model, index, _ = service.resolve(name, label, 1, 0)
    if truncation != 1:
        check_truncation(model)
    network, is_vae = model.network, "encode" in model.operations
    for place, source in enumerate(sources):
        if not isinstance(source, int | bytes) and len(source) != network.latent_dim:
            detail = f"{model.name} has latents of {network.latent_dim} numbers"
            raise InvalidParameterError(
                f"a latent has {len(source)} numbers; {detail}",
                errors=[
                    {"pointer": f"/ends/{place}" if len(sources) > 1 else "/z", "detail": detail}
                ],
            )
    if network.num_classes and index is None:
        if not numbers:
            raise WrongModelError(
                f"{model.name} draws a label from a seed, and there is none; give label",
                errors=[{"pointer": "?label", "detail": "needed where no end is a seed"}],
            )
        first = np.array(numbers[:1], dtype=np.uint64)
        index = int(label_draws(first, network.num_classes)[0])
    in_z = is_vae and (always_z or len(numbers) < len(sources))
    return Walk(model, index, tuple(sources), truncation, in_z)
