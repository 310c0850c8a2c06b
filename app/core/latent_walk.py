"""What a path or a traversal goes through, and the images on its way.

The latents are the noise of a model's seeds; on a VAE, as soon as a latent or a picture is among
the ends, they are the z of /encode and /decode, and a seed stands for the z that its picture is
encoded to. A VAE with a learned prior makes z of its seeds' noise, so the two differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app import seeds
from app.batching.ticket import Timing
from app.core.service import Caller, Service
from app.engines.rows import Image, Latent, Point, Sample
from app.engines.store import StoredModel
from app.errors import InvalidParameterError, WrongModelError

LatentSource = int | Latent | bytes  # a seed, a latent, a picture's file


def livelier_axes(model: StoredModel, count: int) -> tuple[int, ...]:
    """The axes that tell most of a picture: those of most KL where the card has them (Higgins et
    al. 2017, beta-VAE), else the first."""
    most = min(count, model.network.latent_dim)
    nats = model.description.metrics.get("kl_per_dimension_nats")
    if not isinstance(nats, list) or len(nats) != model.network.latent_dim:
        return tuple(range(most))
    return tuple(sorted(range(len(nats)), key=lambda axis: -nats[axis])[:most])


@dataclass(frozen=True, slots=True)
class Walk:
    """Checked ends in a model's latents."""

    model: StoredModel
    label: int | None
    ends: Sequence[LatentSource]
    truncation: float  # of the seeds among them, as in ``Sample``
    in_z: bool  # the latents are a VAE's z, not the noise of seeds

    @property
    def by_seeds(self) -> bool:
        """Whether nothing but seeds decides what comes out."""
        return all(isinstance(end, int) for end in self.ends)

    @property
    def shows_upload(self) -> bool:
        """Whether somebody's picture is among the ends."""
        return bool(self.files)

    @property
    def files(self) -> list[bytes]:
        """The pictures among the ends."""
        return [end for end in self.ends if isinstance(end, bytes)]

    async def latents(
        self, service: Service, pictures: Sequence[Image], caller: Caller
    ) -> list[Latent]:
        """The latent (Z,) of each end.

        Args:
            service: Encodes what has to be.
            pictures: ``files`` as the model's input.
            caller: As ``Service.accepted`` gives it.
        """
        numbers = [end for end in self.ends if isinstance(end, int)]
        of_seeds: Sequence[Latent] = ()
        if numbers and not self.in_z:
            noise = seeds.normals(np.array(numbers, dtype=np.uint64), self.model.network.latent_dim)
            of_seeds = list(noise * np.float32(self.truncation))
        elif numbers:
            samples = [Sample(number, self.label, self.truncation) for number in numbers]
            images, _ = await service.sample(self.model, samples, caller)
            pictures = [*images, *pictures]
        of_pictures: list[Latent] = []
        if pictures:
            posteriors, _ = await service.encode(self.model, pictures, caller)
            of_pictures = [mu for mu, _ in posteriors]
        if self.in_z:
            of_seeds = of_pictures[: len(numbers)]
            of_pictures = of_pictures[len(numbers) :]
        next_seed, next_picture = iter(of_seeds), iter(of_pictures)
        found = []
        for end in self.ends:
            if isinstance(end, int):
                found.append(next(next_seed))
            else:
                found.append(next(next_picture) if isinstance(end, bytes) else end)
        return found

    async def images(
        self, service: Service, latents: Sequence[Latent], caller: Caller
    ) -> tuple[list[Image], Timing]:
        """What is at the latents."""
        if self.in_z:
            return await service.decode(self.model, latents, caller)
        return await service.sample(self.model, [Point(z, self.label) for z in latents], caller)


def walk(
    service: Service,
    name: str | None,
    label: str | None,
    ends: Sequence[LatentSource],
    truncation: float,
    always_z: bool = False,
) -> Walk:
    """Check ends and find the model that they belong to.

    Args:
        service: Knows the models.
        name: Model; None = that of /generate for seeds, or where a label is given; else the first
            VAE.
        label: Class index or name, one for all; None on a conditional model = the one drawn from
            the first seed.
        ends: At least one.
        truncation: Of the seeds, as in ``Sample``.
        always_z: On a VAE take z even if there are only seeds.

    Raises:
        ServiceError: no such model or label, a latent of another length, or a picture for a model
            that cannot encode.
    """
    numbers = [end for end in ends if isinstance(end, int)]
    files = [end for end in ends if isinstance(end, bytes)]
    if files or (name is None and label is None and len(numbers) < len(ends)):
        model, index = service.choice.encoder(name), None
        if label is not None:  # refused, in the usual words
            service.choose(model.name, label, 1, 0)
    else:
        model, index, _ = service.choose(name, label, 1, 0)
    network, is_vae = model.network, "encode" in model.operations
    for place, end in enumerate(ends):
        if not isinstance(end, int | bytes) and len(end) != network.latent_dim:
            detail = f"{model.name} has latents of {network.latent_dim} numbers"
            raise InvalidParameterError(
                f"a latent has {len(end)} numbers; {detail}",
                errors=[{"pointer": f"/ends/{place}" if len(ends) > 1 else "/z", "detail": detail}],
            )
    if network.num_classes and index is None:
        if not numbers:
            raise WrongModelError(
                f"{model.name} draws a label from a seed, and there is none; give label",
                errors=[{"pointer": "?label", "detail": "needed where no end is a seed"}],
            )
        first = np.array(numbers[:1], dtype=np.uint64)
        index = int(seeds.label_draws(first, network.num_classes)[0])
    in_z = is_vae and (always_z or len(numbers) < len(ends))
    return Walk(model, index, tuple(ends), truncation, in_z)
