"""A store as a model repository, with Triton's own definition of its configuration."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc.model_config_pb2 import TYPE_FP32, TYPE_INT64, ModelConfig

from tests.conftest import ROOT
from training.__main__ import main
from training.networks.files import CheckpointError
from training.networks.header import Description
from training.release.session import session_of
from training.release.triton import MAX_BATCH, export_triton, model_config


def parsed(folder: Path) -> dict[str, ModelConfig]:
    """Each model's configuration."""
    return {
        path.parent.name: text_format.Parse(path.read_text(), ModelConfig())
        for path in folder.glob("*/config.pbtxt")
    }


def test_the_repository_has_a_model_for_each_operation_that_tritons_definition_accepts(
    tiny_store: Path, tmp_path: Path
) -> None:
    names = export_triton(tiny_store, tmp_path / "models")
    configs = parsed(tmp_path / "models")
    assert sorted(names) == sorted(configs)
    assert set(names) == {
        *("tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"),
        *("tiny-vae-v1.encode", "tiny-vae-v1.decode"),
    }
    for name, config in configs.items():
        assert (config.name, config.backend) == (name, "onnxruntime")
        assert config.max_batch_size == MAX_BATCH
        assert config.HasField("dynamic_batching")
    z, labels = configs["tiny-cgan-v1"].input
    assert (z.name, z.data_type, list(z.dims)) == ("z", TYPE_FP32, [4])
    assert (labels.name, labels.data_type, list(labels.dims)) == ("labels", TYPE_INT64, [1])
    assert labels.HasField("reshape")
    assert not labels.reshape.shape
    (pixels,) = configs["tiny-cgan-v1"].output
    assert list(pixels.dims) == [1, 28, 28]
    assert configs["tiny-cgan-v1"].parameters["labels"].string_value == "0,1,2,3,4,5,6,7,8,9"
    assert [o.name for o in configs["tiny-vae-v1.encode"].output] == ["mu", "logvar"]


def test_each_graph_takes_what_its_configuration_says(tiny_store: Path, tmp_path: Path) -> None:
    export_triton(tiny_store, tmp_path / "models")
    types = {TYPE_FP32: np.float32, TYPE_INT64: np.int64}
    for name, config in parsed(tmp_path / "models").items():
        session = session_of((tmp_path / "models" / name / "1/model.onnx").read_bytes())
        given = {}
        for tensor in config.input:
            sides = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
            given[tensor.name] = np.zeros((3, *sides), types[tensor.data_type])
        results = session.run([o.name for o in config.output], given)
        for result, tensor in zip(results, config.output, strict=True):
            assert result.shape == (3, *tensor.dims)


def test_a_label_with_quotes_is_written_so_that_triton_reads_it(tiny_store: Path) -> None:
    data = (tiny_store / "tiny-gan-v1.generate.onnx").read_bytes()
    label = 'a "b" \\ ü\n'
    description = Description("cgan", None, (label,))  # type: ignore[arg-type]
    text = model_config("m", data, description, "generate")
    config = text_format.Parse(text, ModelConfig())
    assert config.parameters["labels"].string_value == label


def test_a_damaged_graph_or_a_folder_that_exists_ends_it_with_nothing_written(
    tiny_store: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    for path in tiny_store.glob("tiny-gan-v1.*"):
        (store / path.name).write_bytes(path.read_bytes())
    with pytest.raises(FileExistsError, match="name a new folder"):
        export_triton(store, store)
    graph = store / "tiny-gan-v1.generate.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="SHA-256"):
        export_triton(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        export_triton(tmp_path / "nothing", tmp_path / "out")


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export-triton", str(tmp_path / "out"), "--store", str(ROOT / "models_store")])
    said = capsys.readouterr().out
    for name in parsed(tmp_path / "out"):
        assert name in said
