"""Runs generate, encode and decode on batches, and measures how exactly rows repeat.

Knows neither HTTP nor asyncio. A float row of a network depends in its last bits on the size of
the batch it is in, because libraries choose another algorithm for another size. So batches are
padded to one of a few sizes, and at start-up each size is probed: those whose rows equal, bit
for bit, the rows of one fixed size are kept. Then a seed's pixels do not depend on the batch.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app import seeds
from app.store import StoredModel
from training.networks.vae import VAE

log = logging.getLogger(__name__)

REFERENCE = 64  # batch size whose rows are the right ones: a constant of the contract

Operation = Literal["generate", "decode", "encode"]
Lane = tuple[str, Operation]  # a model's name and what it is to do
Grade = Literal["exact", "visual"]


@dataclass(frozen=True)
class Sample:
    """A row of ``generate``: a seed, and a label where the model is conditional."""

    seed: int
    label: int | None = None


Latent = NDArray[np.float32]  # a row of ``decode``: (Z,)
Image = NDArray[np.uint8]  # (H, W), or (H, W, 3) for a colour model
Posterior = tuple[Latent, Latent]  # mu and logvar, each (Z,)
Row = Sample | Latent | Image
Result = Image | Posterior


def candidate_sizes(max_batch: int) -> list[int]:
    """Batch sizes to pad to: powers of two and the halves between them, so that padding wastes at
    most a third, up to the first of them, or REFERENCE, that holds ``max_batch``."""
    sizes = {1, max_batch, REFERENCE}
    power = 2
    while power <= max(max_batch, REFERENCE):
        sizes |= {power, power * 3 // 2}
        power *= 2
    return sorted(size for size in sizes if size <= max(max_batch, REFERENCE))


class Engine:
    """Every loaded model on one device. Call ``start_thread`` first in the thread that runs it.

    Args:
        models: By name; moved to the device, and expected in eval mode.
        device: Where they run.
        max_batch: The largest batch that ``run`` is meant to get.
        threads: CPU threads of one forward pass.
    """

    def __init__(
        self,
        models: Mapping[str, StoredModel],
        device: torch.device,
        max_batch: int,
        threads: int = 1,
    ) -> None:
        self.device = device
        self.max_batch = max_batch
        self.threads = threads
        self.models = dict(models)
        self.sizes: dict[Lane, list[int]] = {}
        self.grades: dict[str, Grade] = {}
        for model in models.values():
            # In training mode batch norm would mix the rows of strangers' requests.
            assert not any(module.training for module in model.network.modules())
            model.network.to(device)

    def start_thread(self) -> None:
        """Thread-local settings of torch: number of threads, and denormals taken as zero."""
        torch.set_num_threads(self.threads)
        torch.set_flush_denormal(True)

    def operations(self, name: str) -> list[Operation]:
        """What a model can do."""
        can_encode = isinstance(self.models[name].network, VAE)
        return ["generate", "decode", "encode"] if can_encode else ["generate"]

    def warm_up(self) -> dict[str, str]:
        """Run every model at every size, keep the sizes whose rows agree, and grade each model.

        Returns:
            Name -> reason for each model that raised or gave values that are not finite. Such a
            model is dropped; the others are served.
        """
        failed: dict[str, str] = {}
        for name in list(self.models):
            try:
                probes = {(name, op): self._probe((name, op)) for op in self.operations(name)}
            except Exception as error:
                log.exception("%s failed its probe", name)
                failed[name] = f"the network failed its first passes ({type(error).__name__})"
                del self.models[name]
                continue
            self.sizes |= {lane: sizes for lane, (sizes, _) in probes.items()}
            exact = all(stable for _, stable in probes.values())
            self.grades[name] = "exact" if exact else "visual"
            told = ", ".join(f"{lane[1]} {sizes}" for lane, (sizes, _) in probes.items())
            log.info("%s: %s on %s, batch sizes: %s", name, self.grades[name], self.device, told)
        return failed

    def run(self, lane: Lane, rows: Sequence[Row]) -> Sequence[Result | Exception]:
        """Each row's result, in one pass where the sizes allow it. A row that comes out not finite
        gives an exception in its place.

        Args:
            lane: Model and operation.
            rows: ``Sample``, latents (Z,) float32, or images (H, W[, 3]) uint8, by operation.
        """
        largest = self.sizes[lane][-1]
        results: list[Result | Exception] = []
        with torch.inference_mode():
            for start in range(0, len(rows), largest):
                results += self._pass(lane, rows[start : start + largest])
        return results

    def _pass(self, lane: Lane, rows: Sequence[Row]) -> list[Result | Exception]:
        """One padded forward pass of at most the largest size."""
        name, operation = lane
        batch, labels = self._batch(lane, rows)
        size = next(size for size in self.sizes[lane] if size >= len(rows))
        padded_labels = None if labels is None else _pad(labels, size)
        padded = self._forward(lane, _pad(batch, size), padded_labels)
        outputs = [output[: len(rows)] for output in padded]
        results: list[Result | Exception]
        if operation == "encode":
            mu, logvar = (output.cpu().numpy() for output in outputs)
            results = list(zip(mu, logvar, strict=True))
        else:
            results = list(_to_uint8(outputs[0]))
        finite = torch.stack([o.flatten(1).isfinite().all(1) for o in outputs]).all(0)
        if not bool(finite.all()):
            for index in (~finite).nonzero().flatten().tolist():
                results[index] = FloatingPointError(f"{name} gave values that are not finite")
        return results

    def _batch(self, lane: Lane, rows: Sequence[Row]) -> tuple[Tensor, Tensor | None]:
        name, operation = lane
        network = self.models[name].network
        if operation != "generate":
            stacked = torch.from_numpy(np.stack(rows)).to(self.device)  # type: ignore[arg-type]
            return (_from_uint8(stacked) if operation == "encode" else stacked), None
        samples = [row for row in rows if isinstance(row, Sample)]
        numbers = np.array([sample.seed for sample in samples], dtype=np.uint64)
        z = torch.from_numpy(seeds.normals(numbers, network.latent_dim)).to(self.device)
        if not network.num_classes:
            return z, None
        return z, torch.tensor([sample.label for sample in samples], device=self.device)

    def _forward(self, lane: Lane, batch: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
        name, operation = lane
        network = self.models[name].network
        if operation == "generate":
            return (network.generate(batch, labels),)
        assert isinstance(network, VAE)
        return network.encode(batch) if operation == "encode" else (network.decode(batch),)

    def _probe_rows(self, lane: Lane, count: int) -> list[Row]:
        name, operation = lane
        network = self.models[name].network
        numbers = np.arange(count, dtype=np.uint64)
        if operation == "generate":
            classes = network.num_classes
            return [Sample(seed, seed % classes if classes else None) for seed in range(count)]
        if operation == "decode":
            return list(seeds.normals(numbers, network.latent_dim))
        channels, height, width = network.image_shape
        noise = seeds.normals(numbers, channels * height * width) * 64 + 128
        shape = (count, height, width) if channels == 1 else (count, height, width, channels)
        return list(noise.clip(0, 255).astype(np.uint8).reshape(shape))

    def _probe(self, lane: Lane) -> tuple[list[int], bool]:
        """The sizes whose rows equal those of REFERENCE, and whether that one repeats itself.

        REFERENCE is fixed, so neither ``max_batch`` nor the sizes kept change an image. Each other
        size is fed the same rows backwards, so that each row meets other places and neighbours.

        Raises:
            FloatingPointError: an output is not finite.
        """
        batch, labels = self._batch(lane, self._probe_rows(lane, REFERENCE))

        with torch.inference_mode():
            reference = self._forward(lane, batch, labels)
            if not all(bool(output.isfinite().all()) for output in reference):
                raise FloatingPointError("an output of the probe is not finite")

            def agrees(rows: Tensor) -> bool:
                some_labels = None if labels is None else labels[rows]
                part = self._forward(lane, batch[rows], some_labels)
                return all(torch.equal(p, r[rows]) for p, r in zip(part, reference, strict=True))

            def size_agrees(size: int) -> bool:
                # As many passes as show every row, the last one overlapping.
                starts = [*range(0, max(1, REFERENCE - size), size), max(0, REFERENCE - size)]
                order = torch.arange(size, device=self.device).flip(0)
                return all(agrees((order + start) % REFERENCE) for start in starts)

            stable = size_agrees(REFERENCE)
            exact = [
                s for s in candidate_sizes(self.max_batch) if s != REFERENCE and size_agrees(s)
            ]
        sizes = sorted({*exact, REFERENCE})
        # Of the sizes that hold a whole batch, the first is enough.
        enough = next((size for size in sizes if size >= self.max_batch), sizes[-1])
        return [size for size in sizes if size <= enough], stable


def _pad(batch: Tensor, size: int) -> Tensor:
    """Repeat the last row until the batch has ``size`` rows."""
    if len(batch) == size:
        return batch
    return torch.cat([batch, batch[-1:].expand(size - len(batch), *batch.shape[1:])])


def _to_uint8(pixels: Tensor) -> NDArray[np.uint8]:
    """(B, C, H, W) in [0, 1] -> (B, H, W), or (B, H, W, 3), rounded to 0..255."""
    levels = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return (levels[..., 0] if levels.shape[-1] == 1 else levels).contiguous().cpu().numpy()


def _from_uint8(images: Tensor) -> Tensor:
    """The inverse: (B, H, W) or (B, H, W, 3) uint8 -> (B, C, H, W) in [0, 1]."""
    # Strides matter: torch takes (B, 1, H, W) made by a permutation for another memory format, and
    # convolves it with another algorithm at some sizes.
    planes = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return planes.float() / 255
