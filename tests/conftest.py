"""Shared by all tests: tiny networks in a temporary store, and clients of a served application."""

import asyncio
import fcntl
import gc
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

# Before torch is loaded, and for what tests start. A second thread gains nothing on tiny networks,
# and where every core has a process of tests, waiting for it costs more than all the work.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

import httpx
import pytest
import torch
import uvicorn
from fastapi import FastAPI

from app.engines.engine import Engine
from app.engines.loading import LoadedModels, adopt_findings, load_models
from app.engines.probe import Findings
from app.http.connection.protocol import service_protocol
from app.http.cors import default_headers
from app.main import create_app
from app.settings import Settings
from training.networks import build
from training.networks.configs import GanConfig, VaeConfig
from training.networks.header import Description
from training.release.export import save_with_graphs
from training.release.portable.quantise import quantise

# Under nohup it is ignored, and what tests start would ignore it, too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).parent.parent
STORE = ROOT / "models_store"

TINY_GAN = GanConfig(latent_dim=4, channels=(4, 4))
DIGITS = tuple("0123456789")
TINY = {
    "tiny-cgan-v1": Description("cgan", replace(TINY_GAN, num_classes=10), DIGITS),
    "tiny-gan-v1": Description("gan", TINY_GAN),
    "tiny-vae-v1": Description("vae", VaeConfig(latent_dim=3, channels=(4, 4), hidden=8)),
}

# What a page has to cope with, beside those: few latents, many, and another set of another size.
# Dense, for those are exported sooner.
_MANY = 24
_DENSE_VAE = VaeConfig(architecture="dense", channels=(8,))
ODD = {
    "a-cgan-v1": Description(
        "cgan",
        GanConfig(architecture="dense", latent_dim=4, num_classes=3, image_size=32, channels=(8,)),
        ("0", "1", "2"),
        data={"name": "shoes"},
    ),
    # Three in four say something, the others nothing.
    "many-vae-v1": Description(
        "vae",
        replace(_DENSE_VAE, latent_dim=_MANY),
        metrics={"kl_per_dimension_nats": [0.5 * (i % 4) for i in range(_MANY)]},
    ),
    "one-vae-v1": Description("vae", replace(_DENSE_VAE, latent_dim=1)),
    "two-vae-v1": Description("vae", replace(_DENSE_VAE, latent_dim=2)),
}

LIVELY = 3.0  # times a network's first weights: then other latents make other images

MakeClient = Callable[..., Any]
MakeStore = Callable[..., Path]


def pytest_configure() -> None:
    """Where a shell runs the tests in the background, it has SIGINT ignored, and what they start
    would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected is there to stay: garbage collections skip it."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


# Files of few and long tests, which would else be begun last and leave a core idle at the end.
LONG = ("service", "explorer", "training", "packaging")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first; beyond that the order stays."""

    def place(item: pytest.Item) -> int:
        folder = item.nodeid.split("/")[1]
        return LONG.index(folder) if folder in LONG else len(LONG)

    items.sort(key=place)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GENSERVE_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def make_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MakeStore:
    """``make_store(TINY)``: a store of untrained networks of these descriptions, exported; with
    ``portable=True`` quantised. Read it; copy it to change it.

    Exporting takes some seconds a network, so stores are kept between runs in pytest's cache, if it
    is enabled, until the networks, the export or torch change. Of several processes one exports and
    the others wait. tests/training/release/test_export.py exports anew.
    """
    cache = getattr(request.config, "cache", None)  # None with -p no:cacheprovider
    stores = cache.mkdir("tiny-stores") if cache else tmp_path_factory.mktemp("tiny-stores")
    sources = [
        *sorted((ROOT / "training/networks").rglob("*.py")),
        *sorted((ROOT / "training/release/portable").glob("*.py")),
        *(ROOT / "training/release" / f"{name}.py" for name in ("export", "tone_curve")),
    ]
    common = [str(LIVELY), torch.__version__, *(path.read_text() for path in sources)]

    def make(described: Mapping[str, Description], portable: bool = False) -> Path:
        key = hashlib.sha256(
            "".join([repr(described), repr(portable), *common]).encode()
        ).hexdigest()[:16]
        kept: Path = stores / key
        with (stores / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.is_dir():
                unfinished = Path(tempfile.mkdtemp(dir=stores))
                torch.manual_seed(0)
                for name, description in described.items():
                    network = build(description.kind, description.network).eval()
                    for weights in network.parameters():
                        weights.data.mul_(LIVELY)
                    graphs = quantise(network) if portable else None
                    path = unfinished / f"{name}.safetensors"
                    save_with_graphs(path, network, description, graphs)
                unfinished.rename(kept)
        return kept

    return make


@pytest.fixture(scope="session")
def tiny_store(make_store: MakeStore) -> Path:
    """A store with one tiny network of each kind."""
    return make_store(TINY)


@pytest.fixture(scope="session")
def portable_store(make_store: MakeStore) -> Path:
    """The networks of ``tiny_store``, quantised."""
    return make_store(TINY, portable=True)


@pytest.fixture(scope="session")
def odd_store(make_store: MakeStore) -> Path:
    """A store with networks of unusual shapes: copy from it those that are wanted."""
    return make_store(ODD)


@pytest.fixture(scope="session")
def load_tiny(tiny_store: Path) -> Callable[[Settings], Callable[[], LoadedModels] | None]:
    """``create_app``'s ``loaded_models`` for these settings: for a store of ``make_store``, models
    that are loaded and probed once for all settings that say the same of them; else None."""
    names = ("models_dir", "max_batch", "engine", "device", "threads")
    kept: dict[tuple[object, ...], tuple[LoadedModels, Findings]] = {}

    def loader(settings: Settings) -> Callable[[], LoadedModels] | None:
        if settings.models_dir.parent != tiny_store.parent:
            return None
        key = tuple(getattr(settings, name) for name in names)
        if key not in kept:
            loaded = load_models(settings)
            loaded.engine.start_thread()
            kept[key] = loaded, loaded.engine.probe()
        loaded, findings = kept[key]
        engine = Engine(dict(loaded.engine.models), settings.max_batch)
        return lambda: adopt_findings(settings, LoadedModels(engine, loaded.refused), findings)

    return loader


class AppClient(httpx.AsyncClient):
    """A client that knows the application it is for."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        super().__init__(**options)
        self.app = app


@asynccontextmanager
async def _clients(store: Path, load_tiny: Any) -> AsyncIterator[MakeClient]:
    """``await make(max_n=4)``: a client in process of an application with these settings."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> httpx.AsyncClient:
            defaults: dict[str, Any] = {"models_dir": store, "max_batch": 8}
            given = Settings(**(defaults | settings))
            app = create_app(given, loaded_models=load_tiny(given))
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app=app)
            client = AppClient(app, transport=transport, base_url="http://test")
            return await stack.enter_async_context(client)

        yield make


@pytest.fixture
async def make_client(tiny_store: Path, load_tiny: Any) -> AsyncIterator[MakeClient]:
    """``await make_client(max_n=4)``: a client in process of an application with these settings."""
    async with _clients(tiny_store, load_tiny) as make:
        yield make


@pytest.fixture(scope="module")
async def client(tiny_store: Path, load_tiny: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that serves the tiny store, one for all tests of a module.

    A test that leaves traces in the application, or reads its counters, makes its own with
    ``make_client``.
    """
    async with _clients(tiny_store, load_tiny) as make:
        yield await make()


@asynccontextmanager
async def _wires(store: Path, load_tiny: Any) -> AsyncIterator[MakeClient]:
    """As ``_clients``, but over a socket."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> httpx.AsyncClient:
            defaults: dict[str, Any] = {"models_dir": store, "max_batch": 8}
            names = ("linger_seconds",)
            seconds = {name: settings.pop(name) for name in names if name in settings}
            given = Settings(**(defaults | settings))
            app = create_app(given, loaded_models=load_tiny(given))
            http = service_protocol(app.state.fast_path, given, **seconds)
            config = uvicorn.Config(
                app,
                http=http,
                ws="none",
                port=0,
                log_config=None,
                proxy_headers=False,
                headers=default_headers(given),
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve())

            async def stop() -> None:
                server.should_exit = True
                await serving

            stack.push_async_callback(stop)
            while not server.started:
                assert not serving.done()
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            client = await stack.enter_async_context(
                AppClient(app, base_url=f"http://127.0.0.1:{port}", timeout=30)
            )
            app.state.connections = lambda: server.server_state.connections
            return client

        yield make


@pytest.fixture
async def make_wire(tiny_store: Path, load_tiny: Any) -> AsyncIterator[MakeClient]:
    """As ``make_client``, but over a socket: fast requests take the fast path. Arguments of
    ``service_protocol`` are taken, too."""
    async with _wires(tiny_store, load_tiny) as make:
        yield make


@pytest.fixture(scope="module")
async def wires(tiny_store: Path, load_tiny: Any) -> AsyncIterator[MakeClient]:
    """As ``make_wire``, for fixtures of a module."""
    async with _wires(tiny_store, load_tiny) as make:
        yield make


@pytest.fixture(scope="module")
async def wire(wires: MakeClient) -> httpx.AsyncClient:
    """As ``client``, but over a socket."""
    made: httpx.AsyncClient = await wires()
    return made


def passes(metrics: str) -> float:
    """Forward passes of the tiny conditional GAN so far, by /metrics."""
    (line,) = [
        line
        for line in metrics.splitlines()
        if line.startswith("genserve_forward_passes_total") and "tiny-cgan" in line
    ]
    return float(line.split()[-1])


def batcher_task(before: "Collection[asyncio.Task[Any]]" = ()) -> "asyncio.Task[None]":
    """The task of the one batcher on this event loop that was not there ``before``: without it no
    request is served."""
    tasks = asyncio.all_tasks().difference(before)
    (task,) = [task for task in tasks if task.get_name() == "batcher"]
    return task


class Server:
    """A service in a process of its own, on a port of its own."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process = process
        self.url = url

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@contextmanager
def running_server(*arguments: str, program: Sequence[str] = ("-m", "app")) -> Iterator[Server]:
    """Start ``python -m app`` on a free port and wait until it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, *program, "--port", "0", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[0-9.:]+", line)
        assert found, f"the service did not start: {line!r}, exit status {process.poll()}"
        yield Server(process, found.group())
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="session")
def start_server() -> Any:
    """``with start_server("--max-n", "4") as server``."""
    return running_server


@pytest.fixture(scope="session")
def shipped() -> Iterator[Server]:
    """The service as a user starts it, with the checkpoints that the project ships."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds MNIST/raw; tests that need real digits are skipped without one."""
    for root in (os.environ.get("MNIST_ROOT"), ROOT.parent / "shared" / "data", ROOT / "data"):
        if root and (Path(root) / "MNIST" / "raw").is_dir():
            return Path(root)
    pytest.skip("no MNIST files; name the folder that holds MNIST/raw with MNIST_ROOT")


@pytest.fixture
def app_of() -> Callable[[httpx.AsyncClient], FastAPI]:
    """The application behind a client of this process."""

    def find(client: httpx.AsyncClient) -> FastAPI:
        assert isinstance(client, AppClient)
        return client.app

    return find
