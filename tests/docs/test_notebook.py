"""The notebook's cells run from the top, and each shows something."""

import ast
import json
from typing import Any

import pytest

from genserve import Client
from tests.docs.documents import ROOT

NOTEBOOK = json.loads((ROOT / "docs/first-steps.ipynb").read_text())


def last_value(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line, which a notebook shows."""
    tree = ast.parse(source)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(tree, "cell", "exec"), names)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_every_cell_of_the_notebook_runs_and_shows_a_sheet_or_a_short_text(
    shipped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NOTEBOOK["nbformat"] == 4
    monkeypatch.setenv("GENSERVE_URL", shipped.url)
    names: dict[str, Any] = {}
    sheets = 0
    for cell in NOTEBOOK["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []
        value = last_value(source, names)
        assert value is not None, source
        assert len(repr(value)) < 1000, source
        if hasattr(value, "_repr_png_"):
            assert value._repr_png_().startswith(b"\x89PNG"), source
            sheets += 1
        if "==" in source:
            assert all(value), source
    assert sheets >= 4
    assert isinstance(names["client"], Client)
    names["client"].close()
