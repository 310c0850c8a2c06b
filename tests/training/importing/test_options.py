"""What is said of a generator: forms, bounds, and options of the other kind of source."""

from pathlib import Path
from typing import Any

import pytest

from tests.training.tiny import failure
from training.importing.errors import GeneratorError
from training.importing.options import Options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a hundred", "write its shape, such as 100 or 4x8x8"),
        ("1e3", "write its shape"),
        ("-1", "write its shape"),
        ("4096,4096", "write its shape"),
        ("4096x4096x4096", "the latent 4096x4096x4096 is not 1 to 6 sides of at least 1, with at"),
        ("0", "the latent 0 is not"),
        ("100:gauss", "normal, uniform, truncated_normal, sphere, categorical"),
    ],
)
def test_a_latent_in_another_form_is_refused(text: str, message: str) -> None:
    assert message in failure("import", "x.onnx", "--name", "mine", "--latent", text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "x.onnx --classes 0",
            "--classes is 0; it is a number from 1 to 8192, in place of --labels",
        ),
        ("x.onnx --classes 2 --labels a,b", "in place of --labels"),
        ("x.onnx --method decode", "--method is of torch modules; x.onnx is an ONNX file"),
        ("m:G --argv '", '--argv is "\'": No closing quotation'),
        ("x.onnx --weights g.pth", "--weights is of torch modules"),
        ("x.onnx --label-form one_hot", "--label-form is of torch modules"),
        (
            "tests.training.importing.generators:Flat --encoder e.onnx",
            "of a module name the method with --encode",
        ),
        (
            "tests.training.importing.generators:Flaf --latent 5",
            "has no Flaf; its classes are Flat, Convolutional",
        ),
    ],
)
def test_options_that_do_not_fit_the_source_are_refused(options: str, message: str) -> None:
    assert message in failure("import", *options.split(), "--name", "mine")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"labels": ("a", "b", "a")}, "two classes are called 'a'"),
        ({"labels": ("a", "x" * 65)}, "is not 1 to 64 printable characters"),
        ({"note": "a\n# A heading of the card"}, "note is 'a.*a line of at most 1000 printable"),
        ({"licence": "\udcff"}, "licence is .* a line of at most 200 printable characters"),
        ({"data": "x" * 201}, "data is 'x*'; it has to be a line"),
    ],
)
def test_what_is_said_is_bounded_text(tmp_path: Path, said: dict[str, Any], message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        Options("mine", tmp_path, **said)
