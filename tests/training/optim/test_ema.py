"""The averaged copy: which tensors, how fast, and apart from its source."""

import pytest
import torch
from torch import nn

from training.optim.ema import Ema

LATE = 10**9  # images seen when the warm-up no longer shortens any half-life used here


class Counting(nn.Module):
    """A parameter, a float buffer and an integer buffer, like batch norm's."""

    steps: torch.Tensor
    mean: torch.Tensor

    def __init__(self, value: float = 0.0, steps: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), value))
        self.register_buffer("mean", torch.full((2,), value))
        self.register_buffer("steps", torch.tensor(steps))


def test_parameters_and_float_buffers_are_averaged_and_integer_buffers_copied() -> None:
    ema = Ema(Counting(0.0), halflife_images=10)
    ema.update(Counting(1.0, steps=7), batch_images=10, images_seen=LATE)
    assert ema.network.weight.tolist() == pytest.approx([0.5, 0.5])
    assert ema.network.mean.tolist() == pytest.approx([0.5, 0.5])
    assert ema.network.steps.item() == 7
    assert ema.network.steps.dtype == torch.int64


def test_batch_norm_statistics_are_averaged_on_purpose() -> None:
    source = nn.BatchNorm1d(2)
    ema = Ema(source, halflife_images=4)
    source(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)) + 5)
    ema.update(source, batch_images=4, images_seen=LATE)
    assert source.running_mean is not None
    assert ema.network.running_mean is not None
    torch.testing.assert_close(ema.network.running_mean, source.running_mean / 2)
    assert ema.network.num_batches_tracked is not None
    assert ema.network.num_batches_tracked.item() == 1


@pytest.mark.parametrize("batch", [1, 10, 64])
def test_towards_a_constant_the_gap_halves_every_halflife(batch: int) -> None:
    ema, source = Ema(Counting(0.0), halflife_images=100), Counting(1.0)
    for step in range(1, 30):
        ema.update(source, batch, LATE)
        expected = 1 - 0.5 ** (step * batch / 100)
        assert ema.network.weight.tolist() == pytest.approx([expected] * 2, abs=1e-6)


def test_early_on_the_halflife_is_a_twentieth_of_the_images_seen() -> None:
    ema, source = Ema(Counting(0.0), halflife_images=1000), Counting(1.0)
    ema.update(source, batch_images=10, images_seen=200)  # half-life 10, not 1000
    assert ema.network.weight.tolist() == pytest.approx([0.5, 0.5])
    ema.update(source, batch_images=1000, images_seen=20_000)  # 1000 either way
    assert ema.network.weight.tolist() == pytest.approx([0.75, 0.75])
    ema.update(source, batch_images=1000, images_seen=40_000)  # 1000, not 2000
    assert ema.network.weight.tolist() == pytest.approx([0.875, 0.875])


def test_the_random_start_is_forgotten_within_the_first_steps() -> None:
    ema, source = Ema(Counting(1000.0), halflife_images=20_000), Counting(1.0)
    for step in range(1, 11):
        ema.update(source, 64, step * 64)
    assert ema.network.weight.tolist() == pytest.approx([1.0, 1.0], abs=1e-3)


def test_a_halflife_of_0_is_the_last_step_itself() -> None:
    ema = Ema(Counting(0.0), halflife_images=0)
    for value in (0.1, 0.7):
        ema.update(Counting(value), 1, LATE)
        assert torch.equal(ema.network.weight, torch.full((2,), value))


def test_networks_of_different_tensors_are_refused_by_name() -> None:
    ema: Ema[nn.Module] = Ema(nn.Linear(2, 2), halflife_images=1)
    with pytest.raises(ValueError, match=r"tensors differ: \['bias'\]"):
        ema.update(nn.Linear(2, 2, bias=False), 1, LATE)


def test_the_average_is_apart_from_its_source_in_eval_mode_and_without_gradients() -> None:
    source = Counting(1.0).train()
    ema = Ema(source, halflife_images=1)
    with torch.no_grad():
        source.weight.fill_(9.0)
    assert ema.network.weight.tolist() == [1.0, 1.0]
    assert not ema.network.training
    assert not ema.network.weight.requires_grad
    assert source.training
    assert source.weight.requires_grad


def test_updating_leaves_the_source_alone() -> None:
    source = Counting(1.0, steps=3)
    Ema(Counting(0.0), halflife_images=1).update(source, 1, LATE)
    assert source.weight.tolist() == [1.0, 1.0]
    assert source.steps.item() == 3
