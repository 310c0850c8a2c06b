"""Who may import whom: read from the import statements, then shown in a fresh process."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from training.networks.checkpoint import load, save

ROOT = Path(__file__).parent.parent
# Each package, and the folder that it is in.
PACKAGES = {"app": ROOT, "training": ROOT, "genserve": ROOT / "client/src"}

# What each folder (or module of the top level) may import of its own package; itself always.
GROUND = {"errors", "settings", "seeds"}
WORK = GROUND | {"fitting", "formats", "batching", "codec", "engines", "core"}
WEB = WORK | {"rendering", "http"}
RUN_BASE = {"networks", "data", "optim", "config", "presets"}
LAYERS: dict[str, dict[str, set[str]]] = {
    "app": {
        "errors": set(),
        "settings": {"errors"},
        "seeds": set(),
        "fitting": set(),
        "formats": {
            "errors",
            "seeds",
            "fitting",
        },  # formats, batching and engines do not know each other
        "batching": set(),
        "fork": set(),
        "codec": {"errors", "fork", "fitting", "formats", "batching"},
        "engines": GROUND,
        "core": WORK,
        "rendering": WORK,
        "http": WEB,
        "api": WEB,
        "oip": WEB | {"api"},
        "main": WEB | {"api", "oip"},
        "process": WEB | {"main", "fork"},
        "__main__": WEB | {"main", "process"},
    },
    "training": {
        # The public names, loaded when they are asked for.
        "": {"config", "data", "importing", "loops", "optim"},
        "networks": set(),
        "data": {"networks"},
        "importing": {"networks", "data"},
        "optim": {"networks"},
        "config": {"networks", "data", "optim"},
        "presets": {"networks", "config"},
        "runs": RUN_BASE,
        "evaluation": RUN_BASE | {"runs", "importing"},
        "loops": RUN_BASE | {"runs", "evaluation"},
        "release": RUN_BASE | {"runs", "evaluation", "loops", "importing"},
        "cli": RUN_BASE | {"runs", "evaluation", "loops", "importing", "release"},
        "__main__": RUN_BASE | {"runs", "cli"},
    },
    "genserve": {
        "version": set(),
        "errors": set(),
        "files": set(),
        "inputs": {"results"},
        "results": {"files"},
        "responses": {"errors", "results"},
        "request": {"responses", "results"},
        "calls": {"inputs", "request", "responses", "results"},
        "dataset": {"results"},
        "download": {"calls", "dataset", "errors", "files"},
        "connection": {"errors", "version"},
        "retries": {"connection", "download", "errors"},
        "client": {
            *("calls", "connection", "dataset", "download", "request", "responses", "retries"),
        },
        "cli": {
            *("calls", "client", "connection", "download", "errors", "files", "inputs", "request"),
            *("results", "version"),
        },
        "__main__": {"cli", "client", "errors"},
        "": {
            "calls",
            "client",
            "dataset",
            "download",
            "errors",
            "results",
            "version",
        },  # the public names
    },
}
# Third-party libraries (and asyncio) by the folders that may name them. What is not here, no
# folder may.
LIBRARIES = {
    "app": {
        "anyio": {"api"},
        "asyncio": {"batching", "codec", "core", "http", "process"},
        "fastapi": {"api", "oip", "main", "process"},
        "fastapi_offline": {"main"},
        "httptools": {"http"},
        "numpy": {"api", "codec", "core", "engines", "fitting", "formats", "oip", "rendering"},
        "onnxruntime": {"engines"},
        "opentelemetry": {"core"},
        "PIL": {"codec", "fitting", "formats"},
        "prometheus_client": {"api", "core", "process"},
        "pydantic": {"api", "oip", "rendering", "settings"},
        "pydantic_settings": {"settings"},
        "ray": {"process"},
        "starlette": {"api", "http", "main", "process", "rendering"},
        "torch": {"engines"},
        "training": {"core", "engines", "oip"},
        "uvicorn": {"http", "process"},
    },
    "training": {
        "matplotlib": {"release", "runs"},
        "numpy": {"data", "importing", "networks", "release"},
        "onnx": {"importing", "release"},
        "onnxruntime": {"importing", "release"},
        "PIL": {"data", "importing", "runs"},
        "safetensors": {
            "__main__",
            "evaluation",
            "importing",
            "loops",
            "networks",
            "release",
            "runs",
        },
        "sklearn": {"data", "release"},
        "torch": {
            "__main__",
            "cli",
            "data",
            "evaluation",
            "importing",
            "loops",
            "networks",
            "optim",
            "release",
            "runs",
        },
        "torchmetrics": {"evaluation"},
        "torchvision": {"data", "runs"},
        "tqdm": {"data", "runs"},
    },
    "genserve": {
        "asyncio": {"client"},
        "httpx": {"client", "connection", "retries"},
        "numpy": {"calls", "cli", "dataset", "inputs", "responses", "results"},
        "PIL": {"calls", "dataset", "inputs", "results"},
    },
}
HTTP = {"fastapi", "starlette", "uvicorn", "http", "urllib", "httpx", "socket", "socketserver"}
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


@cache
def tree_of(source: str) -> ast.Module:
    """Parsed once for all tests."""
    return ast.parse(source)


def imported(source: str, module: str, is_package: bool = False) -> set[str]:
    """Dotted names that a module's text imports, wherever they stand in it.

    ``from a import b`` counts as ``a.b``: b may be a module. Relative names are resolved, and
    ``import_module("a")`` counts like ``import a``.
    """
    found = set()
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[: len(parts) - node.level + is_package]
                base = ".".join([*kept, *([base] if base else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name in ("import_module", "__import__"):
                target = node.args[0] if node.args else None
                assert isinstance(target, ast.Constant), f"{module} computes a module's name"
                found.add(str(target.value))
    return found


def used(source: str) -> set[str]:
    """Dotted names that a module's text mentions, with its imports' aliases undone."""
    tree = tree_of(source)
    full: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            full |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    names = set(full.values())
    for node in ast.walk(tree):
        parts: list[str] = []
        inner: ast.expr | ast.AST = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if parts and isinstance(inner, ast.Name):
            names.add(".".join([full.get(inner.id, inner.id), *reversed(parts)]))
    return names


def sources(package: str) -> Iterator[tuple[str, Path]]:
    """Module name and file of every module in a package."""
    root = PACKAGES[top(package.replace("/", "."))]
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def imports_of(package: str) -> dict[str, set[str]]:
    found = {
        module: imported(path.read_text(), module, path.name == "__init__.py")
        for module, path in sources(package)
    }
    assert len(found) > 1, f"no modules in {package}"
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def top(name: str) -> str:
    return name.split(".")[0]


def modules_named(names: set[str], modules: set[str]) -> set[str]:
    """The modules among imported names: ``app.errors.shown`` and ``app.errors`` -> app.errors."""
    found = set()
    for name in names:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {""}


def everything_below(module: str, imports: dict[str, set[str]]) -> set[str]:
    """The module and all it imports of its own package, directly or not."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += modules_named(imports[name], set(imports))
    return seen


def test_the_walk_sees_every_form_of_import() -> None:
    source = """
import a.b as c
from d.e import f
from . import sibling
from ..g import h
def late():
    import i
    if TYPE_CHECKING:
        from j import k
    importlib.import_module("l.m")
    __import__("n")
"""
    assert imported(source, "p.q.r") == {
        *("a.b", "d.e.f", "p.q.sibling", "p.g.h", "i", "j.k", "l.m", "n"),
    }
    assert imported("from . import x\nfrom .y import z", "p", is_package=True) == {"p.x", "p.y.z"}
    with pytest.raises(AssertionError, match="p computes"):
        imported("import_module(name)", "p")


def test_the_walk_undoes_aliases() -> None:
    assert "torch.load" in used("import torch as t\nt.load('x')")
    assert "torch.load" in used("from torch import load as read\nread('x')")
    assert "torch.jit.load" in used("import torch\nf = torch.jit.load")
    assert "torch.load" not in used("from safetensors.torch import load\nload(b'')")


def test_networks_import_torch_numpy_safetensors_and_the_standard_library_alone() -> None:
    for module, names in imports_of("training/networks").items():
        foreign = {
            name
            for name in names
            if not within(name, "training.networks")
            and top(name) not in {"torch", "numpy", "safetensors"} | sys.stdlib_module_names
        }
        assert not foreign, f"{module} imports {foreign}"


def folder(module: str) -> str:
    """The folder, or module of the top level, that a module is in: app.http.ranges -> http; of a
    package itself nothing."""
    return module.partition(".")[2].partition(".")[0]


def arrows(package: str) -> Iterator[tuple[str, str]]:
    """Module and imported module of the same package; the package's own ``__init__``, which is
    loaded in any case, is no target."""
    imports = imports_of(package)
    for module, names in imports.items():
        for other in modules_named(names, set(imports)) - {package}:
            yield module, other


@pytest.mark.parametrize("package", LAYERS)
def test_every_folder_imports_only_those_below_it(package: str) -> None:
    allowed: dict[str, set[str]] = {"": set()} | LAYERS[package]
    seen = {folder(module) for module, _ in sources(package)}
    assert seen == set(allowed), "a folder without a line in LAYERS, or a line without a folder"
    wrong = [
        f"{module} -> {other}"
        for module, other in arrows(package)
        if folder(other) not in allowed[folder(module)] | {folder(module)}
    ]
    assert not wrong


@pytest.mark.parametrize("package", LAYERS)
def test_the_table_of_folders_has_no_circle(package: str) -> None:
    below = dict(LAYERS[package])
    while below:
        ground = {name for name, named in below.items() if not named & set(below) - {name}}
        assert ground, f"a circle among {sorted(below)}"
        below = {name: named for name, named in below.items() if name not in ground}


@pytest.mark.parametrize("package", LAYERS)
def test_a_library_is_named_only_where_it_belongs(package: str) -> None:
    free = (sys.stdlib_module_names - {"asyncio"}) | {package}
    known = LIBRARIES[package]
    wrong = [
        f"{module} imports {name}"
        for module, names in imports_of(package).items()
        for name in names
        if top(name) not in free and folder(module) not in known.get(top(name), ())
    ]
    assert not wrong


@pytest.mark.parametrize("name", ["batching", "engines", "formats", "core"])
def test_below_rendering_nothing_knows_http(name: str) -> None:
    for module, names in imports_of("app").items():
        if module != "app" and folder(module) == name:
            assert not {top(imported) for imported in names} & HTTP, module


def test_app_imports_only_the_networks_of_training() -> None:
    for module, names in imports_of("app").items():
        foreign = {
            name
            for name in names
            if within(name, "training") and not within(name, "training.networks")
        }
        assert not foreign, f"{module} imports {foreign}"


def test_the_client_loads_nothing_of_the_service(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, genserve.__main__; print(*sys.modules)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGES["genserve"])},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {top(name) for name in done.stdout.split()}
    assert {"httpx", "numpy", "PIL"} <= loaded
    assert not loaded & ({*LIBRARIES["app"], "app"} - {*LIBRARIES["genserve"], "anyio"})


def test_no_package_imports_tests_or_bench() -> None:
    for package in PACKAGES:
        for module, names in imports_of(package).items():
            foreign = {name for name in names if top(name) in ("tests", "bench", "pytest")}
            assert not foreign, f"{module} imports {foreign}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_in_a_circle(package: str) -> None:
    imports = imports_of(package)
    for module in imports:
        # A package's __init__ is loaded before its modules in any case.
        direct = modules_named(imports[module], set(imports)) - {module}
        for other in direct:
            if not within(module, other):
                assert module not in everything_below(other, imports), f"{module} <-> {other}"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_ever_unpickled(package: str) -> None:
    for module, path in sources(package):
        source = path.read_text()
        unpicklers = {top(name) for name in imported(source, module)} & UNPICKLERS
        assert not unpicklers, f"{module} imports {unpicklers}"
        names = {
            name
            for name in used(source)
            if top(name) == "torch" and name.rpartition(".")[2] in ("load", "save")
        }
        if module == "training.importing.weights":  # reads numbers alone
            assert source.count("torch.load(") == source.count("weights_only=True") == 1
            names -= {"torch.load"}
        assert not names, f"{module} uses {names}"
        assert "allow_pickle=True" not in source, module


# Serves one image as if neither torch nor what training adds were installed; prints what was asked
# for and loaded all the same.
SERVING_ALONE = """
import asyncio, importlib.util, sys

ABSENT = ("torch", "torchvision", "onnx", "onnxscript", "tqdm", "matplotlib", "sklearn")
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ABSENT else find(name)

class Absent:
    asked = set()
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            self.asked.add(name)
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from pathlib import Path
from app.main import create_app
from app.settings import Settings

async def main():
    app = create_app(Settings(models_dir=Path(sys.argv[1]), max_batch=2))
    async with app.router.lifespan_context(app):
        service = app.state.service
        with service.track_request(None) as caller:
            order = service.generate_request("tiny-cgan-v1", "7", 2, 5, caller)
            made = await service.generate(order)
            vae = service.selector.encoder(None)
            code, _ = await service.encode(vae, made.images, None, caller)
        print(*{model.backend.engine for model in service.models.values()}, len(code))

asyncio.run(main())
print(sys.modules["app"].__file__)
print(*Absent.asked)
print(*sys.modules)
"""


@pytest.mark.slow
def test_the_app_serves_where_only_the_serving_files_and_packages_are(
    tmp_path: Path, tiny_store: Path
) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=ignore)
    shutil.copytree(ROOT / "training/networks", tmp_path / "training/networks", ignore=ignore)
    shutil.copy(ROOT / "training/__init__.py", tmp_path / "training")
    done = subprocess.run(
        [sys.executable, "-c", SERVING_ALONE, str(tiny_store)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    served, file, asked, loaded = done.stdout.splitlines()
    assert served == "onnx 2"
    assert Path(file).is_relative_to(tmp_path)  # not the checkout
    assert not asked
    modules = loaded.split()
    assert not any(within(name, "torch") for name in modules)
    parts = {name for name in modules if within(name, "training")} - {"training"}
    assert "training.networks.graph.onnx_file" in parts
    assert all(within(name, "training.networks") for name in parts), parts


@pytest.mark.slow
def test_a_checkpoint_without_graphs_is_refused_with_a_way_out_where_torch_is_not_installed(
    tmp_path: Path, tiny_store: Path
) -> None:
    network, description = load(tiny_store / "tiny-gan-v1.safetensors")
    save(tmp_path / "old-gan-v1.safetensors", network, replace(description, graphs={}))
    done = subprocess.run(
        [sys.executable, "-c", SERVING_ALONE, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "old-gan-v1.safetensors: it has no graphs for ONNX Runtime" in done.stderr
    assert "python -m training export" in done.stderr
