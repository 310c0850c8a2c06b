"""An imported generator as a network that can be measured like ours, run by ONNX Runtime."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.importing.errors import GeneratorError
from training.importing.trial import run, session_of
from training.networks.graph.config import GraphConfig
from training.networks.graph.onnx_file import read_graph
from training.networks.graph.rows import decoder_feed, encoder_feed, from_graph
from training.networks.header import Description
from training.networks.noise import latents_of_seeds


class GraphNetwork(nn.Module):
    """Samples of a checkpoint of kind ``graph``.

    Args:
        checkpoint: Its file; the graphs are beside it.
        description: Of that checkpoint.

    Raises:
        CheckpointError, GeneratorError: a graph is missing, altered or cannot be loaded; or its
            images are not square or have an alpha channel, for which there are no figures.
    """

    def __init__(self, checkpoint: Path, description: Description) -> None:
        super().__init__()
        config = description.network
        assert isinstance(config, GraphConfig)
        channels, height, width = config.image_shape
        if height != width or channels == 4:
            raise GeneratorError(
                f"{checkpoint} makes images of {channels} x {height} x {width}; measured are "
                "square ones in grey or RGB"
            )
        self._sessions = {
            operation: session_of(
                read_graph(checkpoint, operation, graph, imported=True),
                f"{checkpoint} ({operation})",
            )
            for operation, graph in description.graphs.items()
        }
        self.config, self.num_classes = config, config.num_classes
        self.latent_dim, self.image_shape = config.latent_dim, config.image_shape
        self._place = nn.Parameter(torch.zeros(0), requires_grad=False)  # tells the device

    def latents(self, first_seed: int, count: int) -> Tensor:
        """The latents of consecutive seeds, (count, Z)."""
        return torch.from_numpy(
            latents_of_seeds(self.config, range(first_seed, first_seed + count))
        )

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Pixels (B, C, H, W) in [0, 1] of latents (B, Z) and labels (B,)."""
        config, parts = self.config, []
        session = self._sessions[config.graphs[0]]
        rows = z.cpu().numpy()
        indices = None if labels is None else labels.cpu().numpy()
        for start in range(0, len(rows), config.max_batch):
            part = slice(start, start + config.max_batch)
            feed = decoder_feed(config, rows[part], None if indices is None else indices[part])
            (raw,) = run(session, [config.output.name], feed, "the graph")
            parts.append(from_graph(raw, config, len(raw)))
        return torch.from_numpy(np.concatenate(parts)).to(z.device)

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, Z), of a posterior its means, of images (B, C, H, W) in [0, 1] and labels
        (B,)."""
        session, size, parts = self._sessions["encode"], self.config.max_batch, []
        names = {end.name for end in session.get_inputs()}
        indices = None if labels is None else labels.cpu().numpy()
        for start in range(0, len(images), size):
            part = images[start : start + size]
            index = None if indices is None else indices[start : start + size]
            feed = encoder_feed(self.config, part.cpu().numpy(), index, names)
            (means,) = run(session, [self.config.posterior[0]], feed, "encode")
            parts.append(means.reshape(len(part), -1))
        return torch.from_numpy(np.concatenate(parts)).to(images.device)
