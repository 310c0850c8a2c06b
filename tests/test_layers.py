"""Who may import whom: read from the import statements, then shown in a fresh process."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from training.networks.checkpoint import load, save

ROOT = Path(__file__).parent.parent

ROUTES = {
    *("app.routes.between", "app.routes.cards", "app.routes.datasets", "app.routes.declared"),
    *("app.routes.latents", "app.routes.operation", "app.routes.sample", "app.routes.shared"),
    "app.routes.table",
}
# Third-party (and asyncio) by the modules of app that may name them. numpy is free to all of app.
APP_KNOWS = {
    "anyio": {"app.oip", "app.routes.cards", "app.routes.sample", "app.routes.shared"},
    "asyncio": {
        *("app.batching", "app.client.session", "app.dataset", "app.forerunner", "app.idle"),
        *("app.lean", "app.middleware", "app.pending"),
        *("app.protocol", "app.server", "app.service", "app.streams"),
    },
    "fastapi": {"app.main", "app.oip", "app.parameters", "app.server", *ROUTES},
    "fastapi_offline": {"app.main"},
    "httptools": {"app.protocol"},
    "httpx": {"app.client.session"},
    "onnxruntime": {"app.engine_onnx"},
    "PIL": {
        *("app.client.answers", "app.client.ask", "app.client.pictures", "app.images"),
        "app.pictures",
    },
    "prometheus_client": {"app.__main__", "app.metrics", "app.routes.operation"},
    "pydantic": {
        *("app.__main__", "app.bodies", "app.oip", "app.parameters", "app.schemas", "app.settings"),
        *("app.routes.between", "app.routes.datasets", "app.routes.sample", "app.spec"),
    },
    "pydantic_settings": {"app.__main__", "app.settings"},
    "starlette": {
        *("app.server", "app.bodies", "app.forerunner", "app.guard", "app.lean", "app.main"),
        *("app.middleware", "app.replies", "app.streams"),
    },
    "torch": {"app.cuda_graphs", "app.engine_torch"},
    "uvicorn": {"app.protocol", "app.server"},
}
# Inside app: what the layers below the routes may see of it.
APP_LAYERS: dict[str, set[str]] = {
    "app.pace": set(),
    "app.turns": set(),
    "app.shares": {"app.turns"},
    "app.admission": {"app.pace", "app.shares", "app.turns"},
    "app.pending": {"app.turns"},
    "app.batching": {"app.admission", "app.pending", "app.shares"},
    "app.clients": set(),
    "app.errors": set(),
    "app.ranges": {"app.errors"},
    "app.seeds": set(),
    "app.settings": set(),
    "app.standstill": set(),
    "app.runner": set(),
    "app.engine_onnx": {"app.runner"},
    "app.cuda_graphs": set(),
    "app.engine_torch": {"app.cuda_graphs", "app.errors", "app.runner"},
    "app.store": {"app.engine_onnx", "app.engine_torch", "app.errors", "app.runner"},
    "app.ahead": {"app.seeds"},
    "app.engine": {"app.ahead", "app.runner", "app.seeds", "app.store"},
    "app.choice": {"app.errors", "app.store"},
    "app.schemas": {"app.pictures", "app.seeds"},
    "app.limits": set(),
    "app.forks": set(),
    "app.workers": {"app.forks", "app.limits"},
    "app.images": set(),
    "app.pictures": {"app.errors", "app.images"},
    "app.strict_json": {"app.errors"},
    "app.tensors": {"app.errors", "app.strict_json"},
    "app.provenance": {"app.errors", "app.images", "app.seeds"},
    "app.paths": set(),
    "app.negotiation": {"app.errors"},
    "app.archive": set(),
    "app.manifest": set(),
}
HTTP = {"fastapi", "starlette", "uvicorn", "http", "urllib", "httpx", "socket", "socketserver"}
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def imported(source: str, module: str, is_package: bool = False) -> set[str]:
    """Dotted names that a module's text imports, wherever they stand in it.

    ``from a import b`` counts as ``a.b``: b may be a module. Relative names are resolved, and
    ``import_module("a")`` counts like ``import a``.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
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
    tree = ast.parse(source)
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
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


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


def test_app_imports_only_the_networks_of_training() -> None:
    for module, names in imports_of("app").items():
        foreign = {
            name
            for name in names
            if within(name, "training") and not within(name, "training.networks")
        }
        assert not foreign, f"{module} imports {foreign}"


def test_training_never_imports_app() -> None:
    for module, names in imports_of("training").items():
        foreign = {name for name in names if within(name, "app")}
        assert not foreign, f"{module} imports {foreign}"


def test_neither_imports_tests_or_bench() -> None:
    for package in ("app", "training"):
        for module, names in imports_of(package).items():
            foreign = {name for name in names if top(name) in ("tests", "bench", "pytest")}
            assert not foreign, f"{module} imports {foreign}"


@pytest.mark.parametrize("library", APP_KNOWS)
def test_in_app_only_these_modules_know(library: str) -> None:
    knowing = {
        module
        for module, names in imports_of("app").items()
        if any(within(name, library) for name in names)
    }
    assert knowing <= APP_KNOWS[library]


def test_app_uses_no_library_beyond_the_ones_named_here() -> None:
    allowed = {"app", "training", "numpy"} | set(APP_KNOWS) | sys.stdlib_module_names
    for module, names in imports_of("app").items():
        foreign = {name for name in names if top(name) not in allowed}
        assert not foreign, f"{module} imports {foreign}"


def test_batching_and_all_below_it_know_the_standard_library_alone_and_no_http() -> None:
    imports = imports_of("app")
    below = everything_below("app.batching", imports)
    assert {"app.admission", "app.turns"} <= below
    for module in below:
        foreign = {top(name) for name in imports[module] if not within(name, "app")}
        assert foreign <= sys.stdlib_module_names - HTTP, module


def test_engine_and_all_below_it_know_neither_http_nor_asyncio() -> None:
    imports = imports_of("app")
    below = everything_below("app.engine", imports)
    assert "app.store" in below
    for module in below:
        foreign = {top(name) for name in imports[module]} & (HTTP | {"asyncio", "anyio"})
        assert not foreign, f"{module} imports {foreign}"


@pytest.mark.parametrize("layer", APP_LAYERS)
def test_lower_layers_of_app_do_not_look_up(layer: str) -> None:
    imports = imports_of("app")
    assert modules_named(imports[layer], set(imports)) <= APP_LAYERS[layer]


def test_only_main_wires() -> None:
    imports = imports_of("app")
    for wired, by in (
        ("app.routes.table", {"app.main"}),
        *((module, ROUTES) for module in ROUTES - {"app.routes.table"}),
        ("app.oip", {"app.main"}),
        ("app.main", {"app.__main__", "app.openapi"}),
    ):
        users = {m for m, names in imports.items() if wired in modules_named(names, set(imports))}
        assert users <= by


def test_client_and_service_know_nothing_of_each_other() -> None:
    imports = imports_of("app")
    for module, names in imports.items():
        named = modules_named(names, set(imports))
        if within(module, "app.client"):
            # Of the package itself its version alone.
            of_app = {name for name in names if within(name, "app")}
            foreign = {name for name in of_app if not within(name, "app.client")}
            assert foreign <= {"app.__version__"}, module
            known = {"app", "httpx", "numpy", "PIL"} | sys.stdlib_module_names
            assert {top(name) for name in names} <= known, module
        else:
            assert not any(within(name, "app.client") for name in named), module


def test_the_client_loads_nothing_that_serves() -> None:
    show = "import sys, app.client.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {top(name) for name in done.stdout.split()}
    assert {"httpx", "numpy", "PIL"} <= loaded
    serving = {"fastapi", "starlette", "uvicorn", "pydantic", "onnxruntime", "torch", "training"}
    assert not loaded & serving


@pytest.mark.parametrize("package", ["app", "training"])
def test_no_module_imports_itself_in_a_circle(package: str) -> None:
    imports = imports_of(package)
    for module in imports:
        # A package's __init__ is loaded before its modules in any case.
        direct = modules_named(imports[module], set(imports)) - {module}
        for other in direct:
            if not within(module, other):
                assert module not in everything_below(other, imports), f"{module} <-> {other}"


@pytest.mark.parametrize("package", ["app", "training"])
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
        with service.accepted(None) as caller:
            order = service.order("tiny-cgan-v1", "7", 2, 5, caller)
            made = await service.generate(order)
            code, _ = await service.encode(service.choice.encoder(None), made.images, caller)
        print(*{model.runner.engine for model in service.models.values()}, len(code))

asyncio.run(main())
print(sys.modules["app"].__file__)
print(*Absent.asked)
print(*sys.modules)
"""


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
    assert "training.networks.graphs" in parts
    assert all(within(name, "training.networks") for name in parts), parts


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
