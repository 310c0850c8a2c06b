"""A torch module of the user's by its path.

This runs the user's own code, on the user's machine.
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

from torch import nn

from training.data.dataset import import_torchvision
from training.importing.errors import GeneratorError, said

T = TypeVar("T")

_PATH = re.compile(r"(?P<place>.+):(?P<name>[A-Za-z_]\w*)")


def load_module(path: str, arguments: Mapping[str, Any], argv: Sequence[str] = ()) -> nn.Module:
    """The module that ``path`` names.

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
        module = _built(path, found, arguments) if _builds(found) else found
    finally:
        sys.argv = old_argv
        sys.path.pop(0)
    if not isinstance(module, nn.Module):
        raise GeneratorError(f"{path} gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def _builds(found: Any) -> bool:
    return callable(found) and not isinstance(found, nn.Module)


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
        raise GeneratorError(f"{place} cannot be imported: {said(error)}") from error


def _built(path: str, found: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return _with_torchvision(lambda: found(**arguments))
    except (Exception, SystemExit) as error:
        try:
            wants = f"{found.__name__}{inspect.signature(found)}"
        except (TypeError, ValueError, AttributeError):
            wants = path
        advice = "give its arguments with --arg NAME=VALUE"
        if isinstance(error, ImportError):
            advice = f"install it for {sys.executable}"
        raise GeneratorError(
            f"{wants} with {dict(arguments)} fails: {said(error)}; {advice}"
        ) from error


def _run_part(path: Path, name: str) -> types.ModuleType:
    """A module with ``name`` of a script and whatever of the script it needs.

    The statements that bind a name which is needed are run in their order, and calls of methods of
    such names, as of a parser of arguments. Nothing under ``if __name__ == "__main__"`` is.
    """
    try:
        tree = ast.parse(path.read_text(), str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise GeneratorError(f"{path} cannot be read: {said(error)}") from error
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
            f"{path}: what {name} needs of it fails: {said(error)}; options of its command line "
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
