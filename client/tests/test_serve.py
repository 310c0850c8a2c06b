"""``genserve serve``: which installation it accepts as the service. The repository's own tests
start it."""

from pathlib import Path

import pytest

from genserve.cli.serve import import_generator, serve

Output = pytest.CaptureFixture[str]


def installed(folder: Path, name: str, files: str) -> None:
    """Write the record of an installation."""
    record = folder / f"{name}-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (record / "RECORD").write_text(files)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        (None, ""),
        ("genserve_client", "genserve/__init__.py,,\n"),
        ("someproject", "app/__init__.py,,\napp/__main__.py,,\n"),
        ("genserve", "genserve/__init__.py,,\n"),  # another project of this name
    ],
)
def test_where_the_service_is_not_installed_it_says_how_to_install_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
    name: str | None,
    files: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").mkdir()
    for module in ("__init__", "__main__"):
        (tmp_path / "app" / f"{module}.py").write_text("raise SystemExit('not the service')")
    if name:
        installed(tmp_path, name, files)
    for run in (serve, import_generator):
        assert run([], path=[str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("genserve: the service is not installed for ")
        assert "`pip install .` installs it" in err
        assert err.count("\n") == 1


def test_where_training_is_not_installed_import_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    installed(tmp_path, "genserve", "app/__main__.py,,\n")
    monkeypatch.setattr("genserve.cli.serve.find_spec", lambda name: None)
    assert import_generator(["x.onnx"], path=[str(tmp_path)]) == 2
    _, err = capsys.readouterr()
    assert "importing needs what training needs (torch, onnx, onnxscript)" in err
    assert "pip install 'genserve[train]'" in err
    assert err.count("\n") == 1
