"""Links of the documents, and paths of documents named in the code, lead somewhere."""

import subprocess

from tests.docs.documents import DOCUMENTS, ROOT, anchors, links


def test_links_lead_to_files_and_their_headings() -> None:
    assert len(DOCUMENTS) > 40
    for document in DOCUMENTS:
        for link in links(document):
            name, _, anchor = link.partition("#")
            file = document.parent / name if name else document
            assert file.exists(), f"{document.relative_to(ROOT)}: {link}"
            if anchor:
                assert anchor in anchors(file), f"{document.relative_to(ROOT)}: {link}"


def test_documents_named_anywhere_exist() -> None:
    pattern = r"\bdocs/[a-zA-Z0-9_/.-]+\.(md|png|json)\b"
    grep = ["git", "grep", "-I", "--untracked", "-o", "-h", "-E", pattern]
    found = set(subprocess.check_output(grep, cwd=ROOT, text=True).split())
    assert "docs/explanation/quality.md" in found  # in the cards
    assert not {path for path in found if not (ROOT / path).exists()}


def test_every_page_of_docs_is_linked_from_another() -> None:
    linked = {
        (document.parent / link.partition("#")[0]).resolve()
        for document in DOCUMENTS
        for link in links(document)
    }
    assert {page for page in ROOT.glob("docs/**/*.md") if page not in linked} <= {
        ROOT / "docs/README.md"
    }
