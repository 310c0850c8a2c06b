"""The wheels at work: alone, together, and beside another project's package app."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.packaging.conftest import Wheels
from tests.packaging.test_wheels import all_required, distribution_in


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Another project, with a package app of its own, as FastAPI's documentation lays it out."""
    folder = tmp_path / "project"
    (folder / "app").mkdir(parents=True)
    (folder / "app/__init__.py").touch()
    (folder / "app/main.py").write_text("NAME = 'the project'\n")
    (folder / "app/__main__.py").write_text("raise SystemExit('the project was started')\n")
    return folder


@pytest.fixture(scope="session")
def client_only(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client's wheel and the distributions that it requires, as links."""
    site = tmp_path_factory.mktemp("site")
    for entry in wheels.client.iterdir():
        (site / entry.name).symlink_to(entry)
    for name in all_required(distribution_in(wheels.client)):
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for entry_name in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            (site / entry_name).symlink_to(str(installed.locate_file(entry_name)))
    return site


def run(
    *arguments: str, path: list[Path], cwd: Path, url: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Python with these folders on its path, and nothing of this environment (-S) unless the path
    has it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    if url:
        environment["GENSERVE_URL"] = url
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def serving(*arguments: str, path: list[Path], cwd: Path) -> Iterator[Server]:
    """``python -m ...`` with these folders before those of this environment."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments, "--port", "0"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            line = process.stdout.readline()
            address = re.search(r"http://[0-9.:]+", line)
            assert address, f"the service did not start: {line!r}, exit status {process.poll()}"
            yield Server(process, address.group())
        finally:
            process.kill()


def test_the_client_works_where_it_alone_is_installed_and_the_project_has_an_app(
    client_only: Path, project: Path, shipped: Server
) -> None:
    show = "from genserve import Client; import app.main; print(app.main.NAME, Client.__name__)"
    done = run("-c", show, path=[client_only], cwd=project)
    assert (done.stdout, done.stderr) == ("the project Client\n", "")
    for library in ("fastapi", "onnxruntime"):
        assert run("-c", f"import {library}", path=[client_only], cwd=project).returncode == 1
    for command, says in (("status", '"draining": false'), ("models", "mnist-cgan")):
        done = run("-m", "genserve", command, path=[client_only], cwd=project, url=shipped.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert says in done.stdout


def test_serve_says_how_to_install_the_service_where_it_is_not(
    client_only: Path, project: Path
) -> None:
    done = run("-m", "genserve", "serve", "--help", path=[client_only], cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"genserve: the service is not installed for .*`pip install \.`.*\n", done.stderr
    )


def test_serve_starts_the_installed_service_and_not_the_project_s_app(
    wheels: Wheels, project: Path, tiny_store: Path
) -> None:
    for path in (
        [wheels.client, wheels.service],
        [wheels.client, project, wheels.service],  # as PYTHONPATH=. puts it
    ):
        store = ("--models-dir", str(tiny_store), "--workers", "1")
        with serving("genserve", "serve", *store, path=path, cwd=project) as server:
            models = run(
                *("-c", "from genserve.__main__ import main; main(['models'])"),
                path=[wheels.client, *map(Path, sys.path[1:])],
                cwd=project,
                url=server.url,
            )
            assert "tiny-cgan-v1" in models.stdout, models.stderr
            assert server.stop() == 0  # SIGTERM reached the service


def test_training_says_how_to_install_what_it_needs_where_the_service_alone_is(
    wheels: Wheels, tmp_path: Path
) -> None:
    done = run("-m", "training", "--help", path=[wheels.service], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    needs = r"error: .* has no package 'torch'; .*`make dev`, or `pip install '.\[train\]'`.*\n"
    assert re.fullmatch(needs, done.stderr), done.stderr


def test_ctrl_c_ends_serve_as_it_ends_the_service(
    wheels: Wheels, project: Path, tiny_store: Path
) -> None:
    statuses = []
    for program in (["genserve", "serve"], ["app"]):
        store = ("--models-dir", str(tiny_store), "--workers", "1")
        path = [wheels.client, wheels.service]
        cwd = project.parent  # where python -m app does not find the project's
        with serving(*program, *store, path=path, cwd=cwd) as server:
            server.process.send_signal(signal.SIGINT)
            statuses.append(server.process.wait(timeout=30))
    assert statuses[0] == statuses[1]


def test_the_status_and_message_of_a_wrong_option_are_the_service_s(
    wheels: Wheels, project: Path
) -> None:
    path = [wheels.client, wheels.service, *map(Path, sys.path[1:])]
    serve = run("-m", "genserve", "serve", "--port", "99999", path=path, cwd=project)
    alone = run("-m", "app", "--port", "99999", path=path, cwd=project.parent)
    assert (serve.returncode, serve.stderr) == (alone.returncode, alone.stderr)
    assert serve.returncode == 2
    assert serve.stderr.startswith("genserve: port: ")


def test_the_service_s_wheel_serves_its_models_in_an_empty_folder(
    wheels: Wheels, tmp_path: Path
) -> None:
    with serving("app", "--workers", "1", path=[wheels.service], cwd=tmp_path) as server:
        arguments = ["generate", "--label", "7", "--seed", "42", "-o", "seven.png"]
        done = run(
            *("-m", "genserve", *arguments),
            path=[wheels.client, *map(Path, sys.path[1:])],
            cwd=tmp_path,
            url=server.url,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "seven.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["seven.png"]
