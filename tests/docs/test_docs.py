"""The README names what there is: every setting, route, file and make target."""

import re
import tomllib
from pathlib import Path

from app import __version__, openapi
from app.main import create_app
from app.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    for name, field in Settings.model_fields.items():
        row = re.search(rf"^\| `{PREFIX}{name.upper()}` \| (.*?) \|", README, re.MULTILINE)
        assert row, name
        if name != "models_dir":
            default = "none" if field.default is None else str(field.default)
            assert row.group(1).strip("`") == default, name


def test_every_route_is_in_the_readme() -> None:
    for path in create_app(Settings()).openapi()["paths"]:
        assert f"`{path}`" in README, path


def test_the_openapi_in_docs_is_that_of_the_service() -> None:
    kept = (ROOT / "docs/openapi.json").read_text()
    assert kept == openapi.document(), "the interface has changed; `make openapi` writes it anew"


def test_every_source_file_has_its_line() -> None:
    for folder in ("app", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "__init__.py" or path.parent.name == "networks":
                assert f"`{path.relative_to(ROOT / folder)}`" in README, path


def test_every_make_target_is_in_the_readme() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"serve", "test", "check", "bench", "dev", "image-test"} <= set(targets)
    for target in set(targets) - {"help"}:
        assert f"make {target}" in README, target


def test_the_figures_in_the_readme_are_those_of_the_checkpoints() -> None:
    from training.networks.checkpoint import load

    for path in sorted(ROOT.glob("models_*/*.safetensors")):
        metrics = load(path)[1].metrics
        (row,) = re.findall(rf"^\| `{path.stem}` \|(.*)\|$", README, re.MULTILINE)
        figures = [cell.strip() for cell in row.split("|")]
        assert str(metrics["frechet_test_ratio"]) in figures, path.stem
        assert str(metrics["frechet_train_ratio"]) in figures, path.stem


def anchors(document: Path) -> set[str]:
    """What links into a document may name: its headings, as GitHub writes them, and ids."""
    text = document.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return named | set(re.findall(r'id="([^"]+)"', text))


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("models_*/*.md")):
        for target in re.findall(r"\]\((?!http)([^)]+)\)", document.read_text()):
            name, _, anchor = target.partition("#")
            file = document.parent / name if name else document
            assert file.exists(), f"{document.name}: {target}"
            assert not anchor or anchor in anchors(file), f"{document.name}: {target}"


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
