"""``genserve`` without a service: options, files, messages, exit statuses."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genserve.__main__ import main
from genserve.cli.exits import UsageError
from genserve.cli.parser import EXAMPLES, build_parser
from genserve.cli.reading import parse_latents
from genserve.cli.writing import output_format

OtherProgram = Callable[..., Any]

Output = pytest.CaptureFixture[bytes]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENSERVE_URL", "http://127.0.0.1:1")


def failure(capsysbinary: Output, *arguments: str) -> str:
    """The line on standard error of a command that fails."""
    assert main(arguments) == 2
    out, err = capsysbinary.readouterr()
    assert out == b""
    assert err.startswith(b"genserve: ")
    assert err.count(b"\n") == 1
    return err.decode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "-o", "x.gif"], "'x.gif' does not say which format; allowed are .png .webp"),
        (["generate", "-o", ""], "'' does not say which format"),
        (["encode", "missing.png"], "missing.png: No such file or directory"),
        (["verify", "missing.png"], "missing.png: No such file or directory"),
        (["decode", "notes.txt"], "notes.txt holds no latents; allowed: npy (n, Z), npz"),
        (["decode", "deep.npy"], "deep.npy holds an array (1, 1, 3); latents are (n, Z)"),
        (["decode", "not.npz"], "not.npz holds no latents"),
        (["traverse", "two.npy"], "two.npy holds 2 latents; a traversal takes one"),
        (["dataset", "-o", ""], "'' does not say which format"),
        (["dataset", "-o", "folder.zip"], "folder.zip: Is a directory"),
        (["dataset", "-o", "x.tar"], "'x.tar' does not say which format; allowed are .zip and"),
        (["models"], "no complete response from http://127.0.0.1:1: "),
        (["models", "--url", "nowhere"], "'nowhere' is not an address of a service, such as http"),
        (["--url", "nowhere", "models"], "'nowhere' is not an address of a service"),
        (["--key", "x", "serve"], "serve takes no option before it; genserve serve --help"),
        (["--key", "x", "import"], "import takes no option before it; genserve import --help"),
    ],
)
def test_errors_are_one_line_and_status_2(
    capsysbinary: Output, arguments: list[str], says: str
) -> None:
    Path("notes.txt").write_text("dear diary")
    Path("not.npz").write_bytes(b"PK\x03\x04")
    Path("folder.zip").mkdir()
    np.save("deep.npy", np.zeros((1, 1, 3), np.float32))
    np.save("two.npy", np.zeros((2, 3), np.float32))
    assert says in failure(capsysbinary, *arguments)
    assert not list(Path().glob("*.part*"))


def test_a_file_that_cannot_be_written_is_named(
    capsysbinary: Output, other_program: OtherProgram
) -> None:
    Path("folder.png").mkdir()
    with other_program(200, b"\x89PNG", "image/png") as (url, _):
        for path, says in (
            ("folder.png", "folder.png: Is a directory"),
            ("nowhere/x.png", "nowhere/x.png: No such file or directory"),
        ):
            assert says in failure(capsysbinary, "--url", url, "generate", "-o", path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported_with_the_file(
    capsysbinary: Output, other_program: OtherProgram
) -> None:
    with other_program(200, b"\x89PNG", "image/png") as (url, _):
        given = ("--url", url, "generate", "--format", "png", "-o", "/dev/full")
        assert "/dev/full: No space left on device" in failure(capsysbinary, *given)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["generate", "--lable", "7"], "unrecognized arguments: --lable 7"),
        (["generate", "--n", "many"], "argument --n: invalid int value: 'many'"),
        (["dataset"], "the following arguments are required: -o/--output"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(
    capsysbinary: Output, arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    err = capsysbinary.readouterr().err.decode()
    assert says in err
    assert err.count("\n") == 1


def test_every_command_explains_itself(capsysbinary: Output) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+) ", capsysbinary.readouterr().out.decode(), re.MULTILINE)
    assert {"generate", "dataset", "verify", "models", "serve"} <= set(commands)
    for command in set(commands) - {"serve", "import"}:  # whose help is the service's
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        text = capsysbinary.readouterr().out.decode()
        assert "--url" in text
        assert "GENSERVE_KEY" in text


def test_the_format_is_the_option_else_the_suffix_else_the_default() -> None:
    allowed = ("png", "npy")
    assert output_format("x.png", "npy", allowed, "png") == "npy"
    assert output_format("X.NPY", None, allowed, "png") == "npy"
    assert output_format("-", None, allowed, "png") == "png"
    assert output_format(None, None, allowed, "png") == "png"
    with pytest.raises(UsageError, match=r"'x' does not say which format; allowed are \.png \.npy"):
        output_format("x", None, allowed, "png")


def test_latents_are_read_from_npy_npz_and_json(tmp_path: Path) -> None:
    z = [[1.0, 2.0], [3.0, 4.0]]
    np.save(tmp_path / "z.npy", np.array(z, np.float64))
    np.savez(tmp_path / "z.npz", mu=np.zeros((2, 2)), z=np.array(z))
    (tmp_path / "items.json").write_text(json.dumps({"items": [{"z": row} for row in z]}))
    (tmp_path / "body.json").write_text(json.dumps({"z": z}))
    (tmp_path / "bare.json").write_text(json.dumps(z))
    for path in tmp_path.iterdir():
        latents = parse_latents(path.read_bytes(), path.name)
        assert latents.dtype == np.float32
        assert latents.tolist() == z
    assert parse_latents(b"[1, 2]", "-").shape == (1, 2)


def test_an_address_may_leave_out_the_scheme(other_program: OtherProgram) -> None:
    with other_program(200, b'{"draining": false}') as (url, requests):
        assert main(["--url", url.removeprefix("http://"), "status"]) == 0
        assert requests


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_has_examples_that_parse_and_defaults(capsysbinary: Output, command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsysbinary.readouterr().out.decode()
    for example in EXAMPLES[command]:
        assert example in text
        build_parser().parse_args(example.split()[1:])
    assert "(default: " in text or command in ("verify", "models", "status")


def completed(shell_words: str, words: list[str]) -> list[str]:
    """What bash offers for the last of ``words``."""
    array = " ".join(f"'{word}'" for word in words)
    script = f"COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; _genserve; echo ${{COMPREPLY[@]}}"
    run = ["bash", "--norc", "-c", f"{shell_words}\n{script}"]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_and_their_options(capsysbinary: Output) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsysbinary.readouterr().out.decode()
    assert completed(script, ["genserve", "recon"]) == ["reconstruct"]
    assert completed(script, ["genserve", "generate", "--see"]) == ["--seed", "--seeds"]
    assert completed(script, ["genserve", "verify", "--see"]) == []
    assert main(["completion", "zsh"]) == 0
    assert capsysbinary.readouterr().out.decode().endswith(script)
