"""Judges that cannot be cached, are damaged, or belong to the package."""

from pathlib import Path

import pytest
import torch

from tests.training.tiny import assert_same
from training.data.dataset import DataError, Dataset
from training.evaluation import judge
from training.evaluation.judge import judge_for
from training.evaluation.judge_networks import Judge, PublishingJudge


def test_a_judge_that_cannot_be_cached_is_used_and_a_broken_one_is_trained_anew(
    painted: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = []

    def train(kind: type[Judge], data: Dataset, device: torch.device) -> Judge:
        trained.append(data)
        torch.manual_seed(len(trained))
        return kind((1, 8, 8), 10)

    monkeypatch.setattr(judge, "train_judge", train)
    cpu = torch.device("cpu")
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    first = judge_for(PublishingJudge, painted, cpu, blocked)
    assert not first.training
    assert f"could not cache {blocked}/painted" in capsys.readouterr().err

    kept = judge_for(PublishingJudge, painted, cpu, tmp_path / "judges")
    again = judge_for(PublishingJudge, painted, cpu, tmp_path / "judges")
    assert_same(kept.state_dict(), again.state_dict())
    assert len(trained) == 2
    (path,) = (tmp_path / "judges").iterdir()
    assert path.stat().st_mode & 0o777 == 0o644
    path.write_bytes(path.read_bytes()[:1000])
    judge_for(PublishingJudge, painted, cpu, tmp_path / "judges")
    assert len(trained) == 3
    assert f"{path} cannot be used: " in capsys.readouterr().err
    judge_for(PublishingJudge, painted, cpu, tmp_path / "judges")
    assert len(trained) == 3

    # One that belongs to the package is not put another in its place.
    monkeypatch.setattr(judge, "SHIPPED", tmp_path / "judges")
    path.write_bytes(broken := path.read_bytes()[:1000])
    with pytest.raises(DataError, match="belongs to the package and is damaged: reinstall"):
        judge_for(PublishingJudge, painted, cpu, tmp_path / "others")
    assert path.read_bytes() == broken
