"""The service keeps nothing of what clients send: a word hidden in every part of their requests is
searched for in responses, log, metrics and on the disk."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).parents[2]
WORD = "CanaryWhoSings"
KEY = f"{WORD}-the-right-key"


def photo(kind: str) -> bytes:
    """A picture with private metadata in every place that its format has."""
    exif = PillowImage.Exif()
    exif[0x010E] = f"{WORD} description"
    exif[0x013B] = f"{WORD} artist"
    exif.get_ifd(0x8825)[1] = f"{WORD} north"  # GPS
    out = BytesIO()
    options: dict[str, Any] = {"exif": exif}
    if kind == "PNG":
        options["pnginfo"] = chunks = PngInfo()
        chunks.add_text("Comment", f"{WORD} comment")
        chunks.add_text("Comment", f"{WORD} long" * 999, zip=True)
        chunks.add_itxt("XML:com.adobe.xmp", f"<{WORD}/>")
    if kind == "JPEG":
        options["comment"] = f"{WORD} comment"
    if kind == "WEBP":
        options["xmp"] = f"<{WORD}/>".encode()
    PillowImage.new("RGB", (40, 30), (9, 200, 9)).save(out, kind, **options)
    return out.getvalue() + WORD.encode()  # and after its end


class Watched:
    """A service, its log, and its folder for temporary files."""

    def __init__(self, url: str, log: Path, scratch: Path) -> None:
        self.url, self.log, self.scratch = url, log, scratch


@pytest.fixture
def watched(tiny_store: Path, tmp_path: Path) -> Any:
    @contextmanager
    def start(**environment: str) -> Iterator[Watched]:
        scratch, log = tmp_path / "scratch", tmp_path / "log"
        scratch.mkdir()
        options = ["--port", "0", "--models-dir", str(tiny_store), "--workers", "2"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "app", *options],
                cwd=ROOT,
                env={"PATH": "/usr/bin:/bin", "TMPDIR": str(scratch), **environment},
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
            )
            try:
                assert process.stdout
                url = process.stdout.readline().rpartition(" ")[2].strip().rstrip("/")
                yield Watched(url, log, scratch)
            finally:
                process.terminate()
                process.wait(30)
                assert process.stdout
                process.stdout.close()

    return start


def test_nothing_that_is_sent_is_kept_or_passed_on(watched: Any) -> None:
    with watched(GENSERVE_API_KEYS=KEY) as service:
        answers: list[httpx.Response] = []
        with httpx.Client(base_url=service.url, timeout=60) as client:
            for key in (KEY, f"{WORD}-the-wrong-key"):
                client.headers["authorization"] = f"Bearer {key}"
                files = [(kind, photo(kind)) for kind in ("PNG", "JPEG", "WEBP")]
                for kind, data in files:
                    headers = {"content-type": f"image/{kind.lower()}"}
                    for path in ("/encode", "/reconstruct?format=json", "/reconstruct?format=zip"):
                        answers.append(client.post(path, content=data, headers=headers))
                    for broken in (data[:200], data[:-200][::-1], WORD.encode() + data):
                        answers.append(client.post("/encode", content=broken, headers=headers))
                    form = {"file": (f"{WORD}.png", data, f"image/{WORD}")}
                    answers.append(client.post("/reconstruct", files=form))
                    answers.append(client.post("/verify", files=form))
                    answers.append(client.post("/encode", files={f"x{WORD}": form["file"]}))
                text = base64.b64encode(files[0][1]).decode()
                answers.append(client.post("/encode", json={"images": [text]}))
                answers.append(client.post("/encode", json={"images": [WORD + "!"]}))
                answers.append(client.post("/decode", json={"z": [[0, WORD, 0]]}))
                answers.append(client.post("/decode", json={"z": [[0, 0, 0]], "label": WORD}))
                answers.append(
                    client.post(
                        "/decode", content=WORD, headers={"content-type": "application/json"}
                    )
                )
                infer = {
                    "id": WORD[:5],
                    "inputs": [{"name": "seed", "shape": [1], "datatype": WORD, "data": [1]}],
                }
                answers.append(client.post("/v2/models/tiny-gan-v1/infer", json=infer))
                answers.append(client.get("/livez", headers={"cookie": WORD, "referer": WORD}))
                answers.append(client.get("/nothing/here", headers={"user-agent": WORD}))
                answers.append(client.post("/generate", headers={"x-timeout-ms": f"x{WORD}"[1:]}))
        client_metrics = httpx.get(
            f"{service.url}/metrics", headers={"authorization": f"Bearer {KEY}"}
        )
        assert {200, 400, 401, 404, 422} == {answer.status_code for answer in answers}
        for answer in answers:
            content = f"{answer.headers}{answer.text}{_pictures(answer)}"
            if WORD in content:
                # A short parameter is quoted in detail and errors; nothing else is.
                assert (answer.status_code, content.count(WORD)) in ((400, 1), (422, 2))
        assert WORD not in client_metrics.text
        assert not [path for path in service.scratch.rglob("*") if path.is_file()]
        log = service.log.read_text()
    assert log.strip()  # something is written to it
    assert WORD not in log


def _pictures(answer: httpx.Response) -> str:
    """The files that a JSON answer holds in base64."""
    if answer.status_code != 200 or answer.headers["content-type"] != "application/json":
        return ""
    items = answer.json().get("items", [])
    files = [base64.b64decode(item["image"]) for item in items if "image" in item]
    return b"".join(files).decode("latin-1")


@pytest.mark.parametrize("module", ["app.engines.onnx_backend", "training.release.export"])
def test_onnx_runtime_keeps_no_device_id_and_reports_nothing(
    module: str, tiny_store: Path, tmp_path: Path
) -> None:
    """Its telemetry leaves a folder in the user's cache before anything is sent."""
    graph = next(tiny_store.glob("*.onnx"))
    show = "import sys, importlib; importlib.import_module(sys.argv[1]); import onnxruntime; "
    show += "onnxruntime.InferenceSession(sys.argv[2])"
    bare = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", show, module, str(graph)], env=bare, check=True)
    assert not list(tmp_path.glob(".cache/Microsoft/**"))
