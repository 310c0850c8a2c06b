"""``genserve``: what it writes, where, and its exit status."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage

from genserve.__main__ import main
from tests.client.conftest import CLIENT
from tests.conftest import Server

PROGRAM = [sys.executable, "-m", "genserve"]
Output = pytest.CaptureFixture[bytes]


@pytest.fixture(autouse=True)
def _here(served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENSERVE_URL", served.url)


def size(path: str) -> tuple[int, int]:
    with PillowImage.open(path) as picture:
        return picture.size


def run(*arguments: str) -> None:
    assert main(arguments) == 0


def test_generate_writes_what_the_suffix_says(served: Server, capsysbinary: Output) -> None:
    given = ("generate", "--label", "7", "--n", "16", "--seed", "42", "--scale", "2")
    for form in ("png", "webp", "npy", "zip", "json"):
        run(*given, "--metadata", "mark", "-o", f"sevens.{form}")
        query = f"label=7&n=16&seed=42&scale=2&metadata=mark&format={form}"
        wanted = httpx.get(f"{served.url}/generate?{query}").content
        assert Path(f"sevens.{form}").read_bytes() == wanted
    assert capsysbinary.readouterr() == (b"", b"")
    run(*given, "--truncation", "0.5", "--layout", "strip", "-o", "SEVENS.PNG")
    assert size("SEVENS.PNG") == (16 * 56, 56)
    run("generate", "--seeds", "3,9", "--format", "npy", "-o", "noname")
    assert np.load("noname").shape == (2, 28, 28)
    run("generate", "--seed", "1")
    assert capsysbinary.readouterr().out.startswith(b"\x89PNG")
    run("generate", "--seed", "1", "--format", "json", "--model", "tiny-gan-v1")
    assert json.loads(capsysbinary.readouterr().out)["items"][0]["seed"] == 1


def test_latents_are_written_and_read_in_every_format(
    capsysbinary: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("generate", "--label", "7", "--n", "1", "--seed", "42", "-o", "seven.png")
    run("encode", "seven.png")
    body = capsysbinary.readouterr().out
    (item,) = json.loads(body)["items"]
    run("encode", "seven.png", "seven.png", "--seed", "3", "-o", "z.npz")
    with np.load("z.npz", allow_pickle=False) as arrays:
        assert arrays["mu"].shape == arrays["logvar"].shape == arrays["z"].shape == (2, 3)
        assert arrays["mu"][0].tolist() == pytest.approx(item["mu"])
    run("encode", "seven.png", "-o", "z.npy")
    assert np.load("z.npy")[0].tolist() == pytest.approx(item["z"])
    run("encode", "seven.png", "-o", "z.json")
    Path("bare.json").write_text(json.dumps(item["z"]))
    Path("body.json").write_text(json.dumps({"z": [item["z"]]}))
    run("encode", "seven.png", "-o", "whole.npz")
    for source in ("z.npy", "z.json", "bare.json", "body.json", "whole.npz"):
        run("decode", source, "-o", f"{source}.png")
        assert Path(f"{source}.png").read_bytes() == Path("z.npy.png").read_bytes()
    stdin = type("Stdin", (), {"buffer": BytesIO(body)})()
    monkeypatch.setattr("sys.stdin", stdin)
    run("decode", "-o", "piped.png", "--scale", "2")
    assert size("piped.png") == (56, 56)
    run("reconstruct", "seven.png", "-o", "again.png")
    with PillowImage.open("again.png") as again, PillowImage.open("z.npy.png") as decoded:
        np.testing.assert_array_equal(np.asarray(again), np.asarray(decoded))
    run("reconstruct", "seven.png", "seven.png", "--show", "error", "-o", "error.png")
    assert size("error.png") == (3 * 28, 2 * 28)


def test_interpolate_and_traverse_write_what_the_service_returns(served: Server) -> None:
    run("interpolate", "3", "17", "--label", "7", "--steps", "9", "-o", "morph.png")
    query = "seeds=3,17&label=7&steps=9"
    wanted = httpx.get(f"{served.url}/interpolate?{query}").content
    assert Path("morph.png").read_bytes() == wanted
    film = ("--layout", "animation", "--frame-ms", "50")
    run("interpolate", "3", "17", "--method", "lerp", "--steps", "4", *film, "-o", "film.webp")
    with PillowImage.open("film.webp") as picture:
        assert getattr(picture, "n_frames", 1) == 4
    run("generate", "--seed", "1", "-o", "a.png")
    run("encode", "a.png", "a.png", "-o", "two.npy")
    run("interpolate", "a.png", "two.npy", "--steps", "3", "-o", "still.npy")  # three ends alike
    still = np.load("still.npy")
    np.testing.assert_array_equal(still, still[:1].repeat(3, 0))
    run("traverse", "a.png", "--axes", "2,0", "--low", "-1", "--high", "1", "-o", "axes.png")
    assert size("axes.png") == (7 * 28, 2 * 28)
    run("traverse", "4", "--label", "7", "--axes", "0", "--steps", "2", "-o", "axes.npy")
    answer = httpx.get(f"{served.url}/traverse?seed=4&label=7&axes=0&steps=2&format=npy")
    np.testing.assert_array_equal(np.load("axes.npy"), np.load(BytesIO(answer.content)))
    run("traverse", "--axes", "0", "--steps", "2", "-o", "drawn.npy")
    run("encode", "a.png", "-o", "z.npy")
    run("traverse", "z.npy", "--axes", "0", "--steps", "2", "-o", "of-z.npy")


def test_a_dataset_is_summed_up_in_one_line(served: Server, capsysbinary: Output) -> None:
    run("dataset", "--n", "40", "--seed", "1", "--label", "7", "-o", "digits.zip")
    out, err = capsysbinary.readouterr()
    assert out == b""
    assert err == b"digits.zip: 40 images of tiny-cgan-v1, seed 1, 0.1 MB\n"
    with zipfile.ZipFile("digits.zip") as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 41
    run(
        "dataset",
        "--n",
        "4",
        "--model",
        "tiny-gan-v1",
        "--format",
        "npz",
        "--compress",
        "-o",
        "digits",
    )
    with np.load("digits", allow_pickle=False) as arrays:
        assert len(arrays["images"]) == 4


def test_the_status_of_verify_is_the_verdict(capsysbinary: Output) -> None:
    run("generate", "--label", "7", "--n", "1", "--seed", "1", "-o", "one.png")
    run("generate", "--label", "7", "--n", "1", "--seed", "2", "-o", "two.png")
    assert main(["verify", "one.png", "two.png"]) == 0
    same = capsysbinary.readouterr().out.decode().splitlines()
    assert [line.partition(": same: ")[0] for line in same] == ["one.png", "two.png"]
    one, two = Path("one.png").read_bytes(), Path("two.png").read_bytes()
    pixels = len(one) - one.index(b"IDAT")
    Path("forged.png").write_bytes(one[:-pixels] + two[-pixels:])
    assert main(["verify", "one.png", "forged.png"]) == 1
    assert b"forged.png: different: " in capsysbinary.readouterr().out
    run("generate", "--metadata", "none", "-o", "bare.png")
    assert main(["verify", "bare.png"]) == 2
    assert b"no recipe" in capsysbinary.readouterr().err


def test_models_and_status(served: Server, capsysbinary: Output) -> None:
    run("models")
    table = capsysbinary.readouterr().out.decode().splitlines()
    assert table[0].split() == ["MODEL", "KIND", "DOES", "LABELS", "IMAGE", "SEEDS"]
    assert [line.split()[0] for line in table[1:]] == ["tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"]
    assert table[1].endswith("default")
    run("models", "--json")
    assert json.loads(capsysbinary.readouterr().out)["default"] == "tiny-cgan-v1"
    run("models", "tiny-vae-v1")
    card = capsysbinary.readouterr().out.decode().splitlines()
    assert card[0] == "tiny-vae-v1"
    assert "  latent    3 numbers" in card
    assert len(card) < 30
    run("models", "tiny-vae-v1", "--json")
    assert json.loads(capsysbinary.readouterr().out)["latent_dim"] == 3
    run("--url", served.url, "status")
    assert json.loads(capsysbinary.readouterr().out)["draining"] is False


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "--label", "12"], "label is '12'; tiny-cgan-v1 knows 0 to 9 (422, request "),
        (["generate", "--truncation", "2"], "truncation is '2'; it "),
        (["encode", "notes.txt"], "are not a whole PNG, JPEG or WebP picture"),
        (["interpolate", "3"], "it must name at least two seeds"),
        (["models", "nothing"], "unknown model 'nothing'; available: tiny-cgan-v1"),
    ],
)
def test_what_the_service_refuses_is_one_line_and_status_2(
    capsysbinary: Output, arguments: list[str], says: str
) -> None:
    Path("notes.txt").write_text("dear diary")
    assert main(arguments) == 2
    out, err = capsysbinary.readouterr()
    assert out == b""
    assert err.startswith(b"genserve: ")
    assert says in err.decode()
    assert err.count(b"\n") == 1


def test_the_old_file_stays_until_the_new_one_is_complete(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: Output
) -> None:
    """A real full disk: the process may write files of 100 bytes at most."""
    Path("kept.png").write_bytes(b"of old")
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    limited += "from genserve.__main__ import main; raise SystemExit(main())"
    for command in (["generate"], ["dataset", "--n", "9"]):
        name = "kept.png" if command == ["generate"] else "new.zip"
        done = subprocess.run(
            [sys.executable, "-c", limited, *command, "-o", name],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(CLIENT), "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=60,
        )
        assert done.returncode == 2, done.stderr
        assert re.fullmatch(rf"genserve: {name}\S*: File too large\n", done.stderr.decode())
    assert Path("kept.png").read_bytes() == b"of old"
    assert not list(Path().glob(".kept*"))
    link = Path("link.png")
    link.symlink_to("kept.png")
    run("generate", "--seed", "1", "-o", "link.png")
    assert link.is_symlink()
    assert size("kept.png") == (28, 28)
    capsysbinary.readouterr()


@pytest.mark.parametrize(
    ("redirection", "command", "says"),
    [
        (">&-", "generate", b"standard output is closed"),
        (">&-", "status", b"standard output is closed"),
        ("<&-", "encode -", b"standard input is closed"),
        ("</dev/null", "interpolate - -", b"given twice: -"),
    ],
)
def test_closed_streams_are_reported(redirection: str, command: str, says: bytes) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m genserve {command} {redirection}', sys.executable],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CLIENT)},
        timeout=60,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count(b"\n") == 1


def on_terminal(*arguments: str, out: Any = None) -> tuple[int, str]:
    """Run it with standard error, and output if none is given, on a terminal."""
    here, terminal = pty.openpty()
    done = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=terminal if out is None else out,
        stderr=terminal,
        env={**os.environ, "PYTHONPATH": str(CLIENT)},
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            data = os.read(here, 65536)
        except OSError:  # its end
            break
        if not data:
            break
        shown += data
    os.close(here)
    return done.wait(timeout=60), shown.decode()


def test_a_terminal_sees_progress_and_no_pictures() -> None:
    status, shown = on_terminal("dataset", "--n", "2000", "-o", "digits.zip")
    assert status == 0
    assert re.search(r"\rdigits\.zip \[#*\.*\] [0-9,]+ of 2,000, [0-9.]+ MB", shown)
    assert "digits.zip: 2000 images of tiny-cgan-v1" in shown.splitlines()[-1]
    status, shown = on_terminal("generate", "--seed", "1")
    assert status == 2
    assert "png is not shown on a terminal; -o FILE writes it" in shown
    status, shown = on_terminal("status")
    assert status == 0
    assert '\n  "version": ' in shown.replace("\r", "")


def test_an_interrupted_download_is_resumed_by_the_same_command(served: Server) -> None:
    command = [*PROGRAM, "dataset", "--n", "200000", "--seed", "1", "-o", "digits.npz"]
    environment = {**os.environ, "PYTHONPATH": str(CLIENT)}
    running = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    part = Path("digits.npz.part")
    while not (part.exists() and part.stat().st_size > 100_000):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert err == b"genserve: interrupted; digits.npz.part is kept, the same command resumes it\n"
    kept = part.stat().st_size
    again = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    while part.stat().st_size <= kept:
        assert again.poll() is None
        time.sleep(0.01)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=30)
    assert again.returncode == 130
    assert part.stat().st_size > kept


def test_a_reader_that_stops_reading_is_no_error_message() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PROGRAM, "generate", "--seed", "1"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CLIENT)},
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (2, b"")
