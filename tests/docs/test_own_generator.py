"""The how-to from a class in PyTorch to a permalink, as it is written."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.documents import ROOT
from tests.live_service import connect, get, read

PAGE = ROOT / "docs/how-to/serve-your-own-generator.md"


@pytest.mark.slow
def test_forty_lines_of_pytorch_become_a_permalink(start_server: Any, tmp_path: Path) -> None:
    text = PAGE.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 40
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    write, make, serve = commands.splitlines()
    (tmp_path / "mymodel.py").write_text(code)
    program = tmp_path / "genserve"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom genserve.__main__ import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    path = f"{ROOT}{os.pathsep}{ROOT / 'client/src'}"
    environment = os.environ | {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": path,
    }
    for line in (write, make):
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "compared with torch on 256 samples" in done.stdout
    assert "the same bits" in done.stdout
    store = serve.rpartition(" ")[2]
    with start_server("--models-dir", str(tmp_path / store), "--workers", "1") as server:
        with connect(server.url) as connection:
            connection.sendall(b"GET /generate?model=digits&seed=42 HTTP/1.1\r\nHost: test\r\n\r\n")
            first = read(connection)
        assert first.status == 200
        assert first.headers["content-type"] == "image/png"
        permalink = first.headers["content-location"]
        status, again = get(server.url, permalink)
        assert status == 200
        assert again.encode("latin-1") == first.body
