"""Changes of the store's files are noticed once, when they stand still."""

from pathlib import Path

from app.engines.store_watch import StoreWatch


def test_a_change_is_noticed_once_and_only_when_it_stands_still(tmp_path: Path) -> None:
    model, aliases = tmp_path / "a.safetensors", tmp_path / "aliases.txt"
    model.write_bytes(b"1")
    watch = StoreWatch(tmp_path)
    assert not watch.changed()
    model.write_bytes(b"12")
    assert not watch.changed()  # it is being written
    model.write_bytes(b"123")
    assert not watch.changed()
    assert watch.changed()
    assert not watch.changed()
    aliases.write_text("default -> a")
    assert [watch.changed(), watch.changed()] == [False, True]


def test_what_is_not_served_and_a_change_taken_back_are_no_changes(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"1")
    watch = StoreWatch(tmp_path)
    (tmp_path / "a.md").write_text("a card")
    assert [watch.changed(), watch.changed()] == [False, False]
    (tmp_path / "b.onnx").write_bytes(b"1")
    assert not watch.changed()
    (tmp_path / "b.onnx").unlink()
    assert [watch.changed(), watch.changed()] == [False, False]
    watch = StoreWatch(tmp_path / "nowhere")
    assert [watch.changed(), watch.changed()] == [False, False]
