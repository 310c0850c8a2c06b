"""Which library may run the models, by the settings and what is here."""

import pytest

from app.engines import devices


@pytest.mark.parametrize(
    ("engine", "device", "torch", "driver", "may"),
    [
        ("auto", "auto", True, True, True),
        ("auto", "auto", True, False, False),
        ("auto", "auto", False, True, False),
        ("auto", "cpu", True, True, False),
        ("auto", "cuda", True, False, True),
        ("onnx", "auto", True, True, False),
        ("torch", "cpu", True, False, True),
    ],
)
def test_torch_may_run_where_it_is_asked_for_or_could_have_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    device: str,
    torch: bool,
    driver: bool,
    may: bool,
) -> None:
    monkeypatch.setattr(devices, "torch_installed", lambda: torch)
    monkeypatch.setattr(devices, "gpu_driver", lambda: object() if driver else None)
    assert devices.may_run_torch(engine, device) is may
