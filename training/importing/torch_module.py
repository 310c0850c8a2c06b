"""A torch module of the user's by its path, with its weights.

This runs the user's own code, on the user's machine; weights are read as numbers, never unpickled.
"""

import ast
import inspect
import pkgutil
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data.dataset import import_torchvision
from training.importing.errors import GeneratorError

T = TypeVar("T")

# Where training scripts keep a network's weights in a file with others, best first.
_KEYS = ("g_ema", "ema", "netG", "generator", "G", "state_dict", "model_state_dict", "model")
_PATH = re.compile(r"(?P<place>.+):(?P<name>[A-Za-z_]\w*)")


def load_module(path: str, arguments: Mapping[str, Any], argv: Sequence[str] = ()) -> nn.Module:
    """The module that ``path`` names, in eval mode on the CPU.

    Args:
        path: ``package.module:Name``, imported; or ``folder/file.py:Name``, of which only what Name
            needs is run, so that a training script does not begin to train. Name is a class of
            modules, a function that returns one, or a module.
        arguments: Of the class or function.
        argv: Of the script, where its settings come from a command line.

    Raises:
        GeneratorError: there is no such thing, or it cannot be built.
    """
    match = _PATH.fullmatch(path)
    if not match:
        raise GeneratorError(f"{path!r} names no module: write package.module:Name or file.py:Name")
    place, name = match["place"], match["name"]
    sys.path.insert(0, str(Path.cwd()))
    old_argv, sys.argv = sys.argv, [place, *argv]
    try:
        holder = _run_part(Path(place), name) if place.endswith(".py") else _imported(place)
        found = getattr(holder, name, None)
        if found is None:
            raise GeneratorError(f"{place} has no {name}{_listed(_modules_in(holder, place))}")
        module = found if isinstance(found, nn.Module) else _built(path, found, arguments)
    finally:
        sys.argv = old_argv
        sys.path.pop(0)
    if not isinstance(module, nn.Module):
        raise GeneratorError(f"{path} gives a {type(module).__name__}, not a torch.nn.Module")
    return module.cpu().eval().requires_grad_(False)


def _with_torchvision(run: Callable[[], T]) -> T:
    """Run the user's code; again, if torchvision's compiled operators alone stood in its way."""
    try:
        return run()
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    import_torchvision()
    return run()


def _modules_in(holder: Any, place: str) -> list[str]:
    """What the user may have meant: the classes of a script, of a module those of networks."""
    if place.endswith(".py"):
        tree = ast.parse(Path(place).read_text())
        return [statement.name for statement in tree.body if isinstance(statement, ast.ClassDef)]
    classes = [value for value in vars(holder).values() if isinstance(value, type)]
    return [c.__name__ for c in classes if issubclass(c, nn.Module) and c.__module__ == place]


def _listed(names: Sequence[str]) -> str:
    return f"; its classes are {', '.join(names[:20])}" if names else ""


def _imported(place: str) -> Any:
    try:
        return _with_torchvision(lambda: pkgutil.resolve_name(place))
    except SystemExit as error:
        raise GeneratorError(
            f"{place} ended while it was imported: it is a script. Name its file, as in "
            f"{place.replace('.', '/')}.py:Name, and only what Name needs is run"
        ) from error
    except Exception as error:  # the user's code may raise anything
        raise GeneratorError(f"{place} cannot be imported: {_said(error)}") from error


def _built(path: str, found: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return _with_torchvision(lambda: found(**arguments))
    except Exception as error:
        try:
            wants = f"{found.__name__}{inspect.signature(found)}"
        except (TypeError, ValueError, AttributeError):
            wants = path
        raise GeneratorError(
            f"{wants} with {dict(arguments)} fails: {_said(error)}; give its arguments with --arg "
            "NAME=VALUE"
        ) from error


def _run_part(path: Path, name: str) -> types.ModuleType:
    """A module with ``name`` of a script and whatever of the script it needs.

    The statements that bind a name which is needed are run in their order, and calls of methods of
    such names, as of a parser of arguments. Nothing under ``if __name__ == "__main__"`` is.
    """
    try:
        tree = ast.parse(path.read_text(), str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise GeneratorError(f"{path} cannot be read: {_said(error)}") from error
    needed, kept = {name}, set[int]()
    changed = True
    while changed:
        changed = False
        for index, statement in enumerate(tree.body):
            if _is_main_guard(statement):
                continue
            if index in kept or not (_binds(statement) & needed or _touches(statement, needed)):
                continue
            kept.add(index)
            needed |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
            changed = True
    body = [statement for index, statement in enumerate(tree.body) if index in kept]
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    sys.path.insert(0, str(path.resolve().parent))
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # dataclasses and others look their module up
    try:
        code = compile(ast.Module(body, type_ignores=[]), str(path), "exec")
        # The user's own code, as the command says.
        _with_torchvision(lambda: exec(code, module.__dict__))  # noqa: S102
    except (Exception, SystemExit) as error:
        raise GeneratorError(
            f"{path}: what {name} needs of it fails: {_said(error)}; options of its command line "
            "are given with --argv"
        ) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
        if name not in vars(module):  # then nobody will use it
            sys.modules.pop(path.stem)
            if before is not None:
                sys.modules[path.stem] = before
    return module


def _is_main_guard(statement: ast.stmt) -> bool:
    """Whether a statement is ``if __name__ == "__main__"``."""
    test = statement.test if isinstance(statement, ast.If) else None
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name)
        and test.left.id == "__name__"
    )


def _binds(statement: ast.stmt) -> set[str]:
    """The names that a statement of the top level defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    if isinstance(
        statement, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.If | ast.With | ast.Try
    ):
        return {
            node.id
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
    return set()


def _touches(statement: ast.stmt, needed: set[str]) -> bool:
    """Whether a statement calls a method of a parser of arguments that is needed."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    owner = call.func.value
    return (
        call.func.attr.startswith(("add_argument", "set_defaults"))
        and isinstance(owner, ast.Name)
        and owner.id in needed
    )


def load_weights(module: nn.Module, path: Path, key: str | None = None) -> None:
    """Fill a module with weights of a ``.safetensors`` file, or of one that ``torch.save`` wrote.

    Args:
        key: Of the weights in a file with several; None = found.

    Raises:
        GeneratorError: the file cannot be read without running code from it, or does not fit.
    """
    tensors = _tensors(path, key)
    wanted = set(module.state_dict())
    for prefix in ("module.", "_orig_mod.", "generator."):
        if not wanted & set(tensors) and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    missing, surplus = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted)
    if missing or surplus:
        parts = [
            f"{len(names)} {what}, the first {names[0]}"
            for what, names in (("are missing", missing), ("do not belong to it", surplus))
            if names
        ]
        raise GeneratorError(f"{path} does not fit {type(module).__name__}: {'; '.join(parts)}")
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise GeneratorError(
            f"{path} does not fit {type(module).__name__}: {lines[0][:300]}; was it built with "
            "other arguments? Give them with --arg NAME=VALUE"
        ) from error


def _tensors(path: Path, key: str | None) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise GeneratorError(f"{path} does not exist") from error
    except Exception as error:  # torch raises many classes for what is no file of weights
        text = str(error)
        if "weights_only" in text or "Unsupported" in text:
            raise GeneratorError(
                f"{path} holds more than numbers, and reading that would run code from it. Save "
                "the weights alone: torch.save(generator.state_dict(), 'generator.pth')"
            ) from error
        raise GeneratorError(f"{path} is no file of weights: {_said(error)}") from error
    return _state_of(found, path, key)


def _state_of(found: Any, path: Path, key: str | None) -> dict[str, Tensor]:
    """The weights in what a file holds."""
    if key is not None:
        if not isinstance(found, Mapping) or key not in found:
            has = ", ".join(map(str, found)) if isinstance(found, Mapping) else "no table"
            raise GeneratorError(f"{path} has no {key!r}; it has {has[:300]}")
        found = found[key]
    if _is_state(found):
        return dict(found)
    inner = [name for name in found if _is_state(found[name])] if isinstance(found, Mapping) else []
    if not inner:
        raise GeneratorError(f"{path} holds no weights: it is a {type(found).__name__}")
    named = [name for name in _KEYS if name in inner]
    if len(inner) > 1 and not named:
        raise GeneratorError(f"{path} holds weights of {', '.join(inner)}: choose with --key NAME")
    return dict(found[named[0] if named else inner[0]])


def _is_state(found: Any) -> bool:
    return (
        isinstance(found, Mapping)
        and bool(found)
        and all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
        )
    )


def _said(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}"
