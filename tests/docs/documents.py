"""Reading Markdown: blocks of code, anchors, links, tables."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "models_*/*.md", "client/*.md")
    for path in ROOT.glob(pattern)
)


class Block(NamedTuple):
    """A fenced block of code."""

    line: int  # of its first line in the document
    language: str
    code: str
    prints: str | None  # the ``text`` block right behind it; None = it may print anything


def blocks(document: Path) -> Iterator[Block]:
    """The blocks of a document in their order."""
    text = document.read_text()
    fence = re.compile(
        r"^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
    )
    for found in fence.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        yield Block(line, found[1], found[2], found[3])


def prose(document: Path) -> str:
    """The text without its blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """What a link into the document may name: its headings, as GitHub writes them, and ids."""
    text = prose(document)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return named | set(re.findall(r'id="([^"]+)"', text))


def links(document: Path) -> list[str]:
    """Where the document's links and pictures lead, other sites left out."""
    return re.findall(r"\]\((?!https?:)([^)]+)\)", prose(document))


def cells(document: Path) -> list[list[str]]:
    """The cells of every row of the document's tables, heads and rulers too."""
    rows = re.findall(r"^\|(.*)\|$", prose(document), re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]
