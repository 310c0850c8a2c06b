"""What goes wrong around training and publishing: one line that says what to do, nothing half."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.training.tiny import ROOT, assert_same, failure, lines, small, state
from training.__main__ import main
from training.cli import commands
from training.networks.checkpoint import load
from training.release import publish, release_files
from training.runs.errors import STATE, TrainingError, write_errors
from training.runs.run_folder import locked

pytestmark = pytest.mark.usefixtures("no_graphs")

RUN = "runs/gan-dense-001"
DENSE = ["--preset", "dense", "--log-every", "1"]
ONE = ["--threads", "1"]
RELEASE = ["publish", RUN, "--no-figures", *ONE]


@pytest.fixture
def trained(made_up_mnist: Path, here: Path) -> Path:
    """A working folder with a run of two steps of eight."""
    main(["gan", *small(made_up_mnist), *DENSE, "--max-steps", "2"])
    return here


def test_a_kill_in_the_midst_of_a_save_costs_nothing_that_was_saved(
    made_up_mnist: Path, here: Path
) -> None:
    options = [*small(made_up_mnist), *DENSE, "--save-every", "2"]
    main(["gan", *options, "--max-steps", "6"])
    # The second save is cut off half way by a signal that no program can catch.
    code = """
import os, signal, sys
from training.__main__ import main
from training.runs import run_state
write, saves = run_state.save_file, []
def cut_off(tensors, path, metadata):
    write(tensors, path, metadata)
    saves.append(path.name)
    if saves.count(".state.safetensors.tmp") == 2:
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
run_state.save_file = cut_off
main(sys.argv[1:])
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, "gan", *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL
    again = Path("runs/gan-dense-002")
    assert (again / ".state.safetensors.tmp").exists()
    main(["gan", "--resume", str(again), "--max-steps", "6", *ONE])
    assert_same(state(Path(RUN)), state(again))
    assert lines(Path(RUN)) == lines(again)


def test_a_config_and_a_log_that_cannot_be_written_anew_stay_whole(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in Path(RUN).rglob("*") if path.is_file()}

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = failure("gan", "--resume", RUN, *ONE)
    assert f"could not write {RUN}/config.json: No space left on device" in message
    assert "free some space, then continue with --resume" in message
    assert before == {path: path.read_bytes() for path in Path(RUN).rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("number", "mend"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "make it writable")],
)
def test_what_to_do_depends_on_what_failed_and_on_what_is_saved(
    number: int, mend: str, tmp_path: Path
) -> None:
    def attempt() -> str:
        with pytest.raises(TrainingError) as caught, write_errors(tmp_path / "losses.jsonl"):
            raise OSError(number, os.strerror(number))
        return str(caught.value)

    assert attempt().endswith(
        f"{os.strerror(number)}. No state is saved yet: {mend}, or name another folder with --runs"
    )
    (tmp_path / STATE).touch()
    assert attempt().endswith(f"state is whole: {mend}, then continue with --resume")


def test_runs_that_cannot_be_made_are_said_and_resume_is_not_advised(
    made_up_mnist: Path, here: Path
) -> None:
    Path("taken").touch()
    message = failure("gan", *small(made_up_mnist), "--runs", "taken")
    assert message == "error: taken is a file, not a folder of runs; name a folder with --runs"
    message = failure("gan", *small(made_up_mnist), "--runs", "/proc/nowhere")
    assert "could not write /proc/nowhere: " in message
    assert message.endswith("make it writable, or name another folder with --runs")


def test_a_run_that_is_not_there_names_those_that_are(trained: Path) -> None:
    for argv in (["publish", "runs/gan-dense-007"], ["gan", "--resume", "elsewhere"]):
        assert failure(*argv).endswith(
            f"is not a run folder: it has no config.json; there are {RUN}"
        )


@pytest.mark.parametrize("damage", ["cut", "no metadata", "other network"])
def test_a_broken_state_is_one_line_to_resume_and_publish(damage: str, trained: Path) -> None:
    path = Path(RUN, "state.safetensors")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
        reason = ""
    elif damage == "no metadata":
        save_file(load_file(path), path)
        reason = "its header lacks step and seconds"
    else:
        config = Path(RUN, "config.json")
        config.write_text(config.read_text().replace('"latent_dim": 100', '"latent_dim": 50'))
        reason = "size mismatch for trunk"
    message = failure("gan", "--resume", RUN, *ONE)
    assert f"cannot resume from {path}: " in message
    assert reason in message
    message = failure(*RELEASE)
    assert f"{path} is damaged: " in message
    assert reason in message
    assert not list(Path("models_store").glob("*"))


def test_two_processes_cannot_train_in_one_run(trained: Path) -> None:
    weights, config = state(Path(RUN)), Path(RUN, "config.json").read_bytes()
    code = "from training.__main__ import main; import sys; main(sys.argv[1:])"
    with locked(Path(RUN)):
        other = subprocess.run(
            [sys.executable, "-c", code, "gan", "--resume", RUN, *ONE],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert other.returncode == 1
    assert len(other.stderr.splitlines()) == 1
    assert f"another process trains in {RUN}; stop it first" in other.stderr
    assert_same(weights, state(Path(RUN)))
    assert Path(RUN, "config.json").read_bytes() == config
    main(["gan", "--resume", RUN, "--max-steps", "3", *ONE])  # it is free again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "diffusion"}, "there is no preset 'dense' of kind 'diffusion'"),
        ({"preset": "huge"}, "there is no preset 'huge' of kind 'gan'"),
        ({"data": {"source": "mnits", "root": "x"}}, "no set is known by the name 'mnits'"),
    ],
)
def test_a_config_that_names_what_is_not_there_is_one_line(
    change: dict[str, object], message: str, trained: Path
) -> None:
    config = Path(RUN, "config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    assert message in failure("gan", "--resume", RUN, *ONE)
    assert message in failure(*RELEASE)


def test_a_state_that_may_not_be_read_is_not_called_damaged(trained: Path) -> None:
    path = Path(RUN, "state.safetensors")
    assert path.stat().st_mode & 0o777 == 0o644  # as the config beside it
    path.unlink()
    path.mkdir()
    for command in (RELEASE, ["gan", "--resume", RUN, *ONE]):
        assert f"cannot read {path}: Is a directory" in failure(*command)


def test_a_log_with_odd_bytes_and_odd_revisions_do_not_keep_a_run_from_going_on(
    trained: Path,
) -> None:
    log, config = Path(RUN, "losses.jsonl"), Path(RUN, "config.json")
    log.write_bytes(log.read_bytes() + b"\xff\xfe")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"revisions": 3}))
    main(["gan", "--resume", RUN, "--max-steps", "3", *ONE])
    assert [line["step"] for line in lines(Path(RUN))] == [1, 2, 3]
    assert json.loads(config.read_text())["revisions"][0] == "unknown"


def test_commands_to_copy_are_quoted(
    made_up_mnist: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["gan", *small(made_up_mnist), *DENSE, "--max-steps", "2", "--runs", "my runs"])
    assert "publish 'my runs/gan-dense-001'" in capsys.readouterr().out
    main(["publish", "my runs/gan-dense-001", "--no-figures", *ONE])
    assert "--resume 'my runs/gan-dense-001'" in capsys.readouterr().err


def test_all_is_measured_that_can_be_and_the_rest_is_named(
    trained: Path, made_up_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main([*RELEASE, "--name", "b-v1"])
    sets: list[Any] = []

    def other(path: Path) -> Any:
        network, about = load(path)
        if path.stem == "a-v1":
            data = {**about.data, "source": "folder", "name": "photos"}
            about = dataclasses.replace(about, data=data)
        return network, about

    main([*RELEASE, "--name", "a-v1"])
    monkeypatch.setattr(commands, "load", other)
    monkeypatch.setattr(commands, "reference_for", lambda *data: sets.append(data))
    monkeypatch.setattr(commands, "evaluate", lambda *_: {"samples": 1})
    options = ["--data-root", str(made_up_mnist), "--json", "x.json", *ONE]
    message = failure("evaluate", "--all", *options)
    assert "not measured: a-v1: models_store/a-v1.safetensors was trained on a folder" in message
    assert json.loads(Path("x.json").read_text()) == {"b-v1": {"samples": 1}}
    sets.clear()
    assert "was trained on a folder" in failure("evaluate", "b-v1", "a-v1", *options)
    assert not sets  # nothing was measured, nor a judge trained, before that was found
    options[3] = "no/where/x.json"
    assert "no/where/x.json" in failure("evaluate", "b-v1", *options)
    assert not sets


def test_evaluate_and_export_name_what_the_store_holds(trained: Path) -> None:
    for argv in (["evaluate", "nope"], ["export", "nope", "copy"], ["evaluate", "--all"]):
        assert "models_store holds no checkpoints (*.safetensors)" in failure(*argv)
    main(RELEASE)
    main([*RELEASE, "--name", "second-v1"])
    for argv in (["evaluate", "nope"], ["export", "nope", "copy"]):
        assert "has no checkpoint 'nope'; it has mnist-gan-v1, second-v1" in failure(*argv)
    assert failure("evaluate", "secnd-v1").endswith("Did you mean second-v1?")
    broken = Path("models_store/second-v1.safetensors")
    broken.write_bytes(broken.read_bytes()[:3000])
    assert str(broken) in failure("evaluate", "second-v1")


def test_an_unfinished_run_is_published_as_what_it_is(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(RELEASE)
    told = capsys.readouterr().err
    assert f"{RUN} is not finished: step 2 of 8. It is published as it is" in told
    assert f"python -m training gan --resume {RUN}" in told
    assert "at step 2 of 8" in Path("models_store/mnist-gan-v1.md").read_text()


def test_without_figures_nothing_is_measured_and_the_card_says_so(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("reference_for", "evaluate"):
        monkeypatch.delattr(publish, name)  # the judge is not even asked for
    main(RELEASE)
    assert load(Path("models_store/mnist-gan-v1.safetensors"))[1].metrics == {}
    card = Path("models_store/mnist-gan-v1.md").read_text()
    assert "Not measured: it was published with `--no-figures`." in card
    assert "`python -m training evaluate mnist-gan-v1` measures it." in card
    assert "Whether it repeats training images was not measured." in card
    assert not Path("runs/judges").exists()
    assert not Path("models_store/mnist-gan-v1-nearest.png").exists()


@pytest.mark.parametrize("what", ["full disk", "Ctrl-C"])
def test_what_cannot_be_published_whole_is_not_published(
    what: str, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> str:  # the checkpoint is written by then
        if what == "Ctrl-C":
            raise KeyboardInterrupt
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(release_files, "save_gallery", fail)
    if what == "Ctrl-C":
        with pytest.raises(SystemExit) as caught:
            main(RELEASE)
        assert caught.value.code == 130
        assert capsys.readouterr().err.endswith("\nstopped\n")
    else:
        message = failure(*RELEASE)
        assert "could not write models_store/mnist-gan-v1.safetensors: No space left" in message
        assert "Nothing was published" in message
    assert list(Path("models_store").iterdir()) == []
    monkeypatch.undo()
    os.chdir(trained)
    main(RELEASE)
    assert not [path for path in Path("models_store").iterdir() if path.name.startswith(".")]


def test_a_store_that_cannot_be_written_is_said_before_anything_is_measured(
    trained: Path,
) -> None:
    Path("taken").touch()
    assert failure(*RELEASE, "--store", "taken").startswith("error: cannot write to taken: ")


def started(*argv: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *argv],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ctrl_c_while_torch_is_imported_is_one_line(here: Path) -> None:
    # A module in torch's place says when its import has begun, and takes its time.
    Path("torch.py").write_text("print('here', flush=True)\nimport time\ntime.sleep(60)\n")
    process = started("-m", "training", "evaluate", "nope")
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == b"\nstopped\n"


def test_a_reader_that_leaves_is_no_error(here: Path) -> None:
    code = """
from training.__main__ import main
from training.cli import commands
commands.COMMANDS["evaluate"] = lambda arguments: print("line\\n" * 100_000)
main(["evaluate", "x"])
"""
    with started("-c", code) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(timeout=120) == 141
