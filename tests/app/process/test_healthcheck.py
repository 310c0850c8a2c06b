"""The image's health check asks the port that is set."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]

from app.process.healthcheck import is_alive, port_of
from app.settings import PREFIX, Settings

ROOT = Path(__file__).parents[3]
APP = ["python", "-m", "app"]


@pytest.mark.parametrize(
    ("options", "environment", "port"),
    [
        ([], {}, 8000),
        ([], {"GENSERVE_PORT": "8410"}, 8410),
        (["--port", "9000"], {"GENSERVE_PORT": "8410"}, 9000),
        (["--port=9000", "--workers", "2"], {}, 9000),
        (["--port", "1", "--port", "9000"], {}, 9000),
        ([], {"GENSERVE_PORT": "tcp://10.96.0.7:80"}, 8000),
        (["--max-n", "7", "--root-path", "/--port=1"], {}, 8000),
    ],
)
def test_the_port_is_the_options_else_the_variables(
    options: list[str], environment: dict[str, str], port: int
) -> None:
    assert port_of(APP + options, environment) == port


def test_a_service_is_alive_while_it_answers(shipped: Any) -> None:
    port = urlsplit(shipped.url).port
    assert port
    assert is_alive(port)
    assert not is_alive(1)


def test_the_images_check_and_port_are_settings() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "app.process.healthcheck" in text
    assert "GENSERVE_HOST=0.0.0.0" in text


def test_compose_passes_every_setting_on() -> None:
    """But for the host and the folder, which are the image's own."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    settings -= {"GENSERVE_HOST", "GENSERVE_MODELS_DIR"}
    own: dict[str, set[str]] = {  # what a service says itself
        "genserve": set(),
        "genserve-gpu": {"GENSERVE_DEVICE"},
        "replica": {"GENSERVE_PORT", "GENSERVE_DRAIN_DELAY_SECONDS", "GENSERVE_TRUSTED_PROXIES"},
    }
    assert {name for name, service in services.items() if "build" in service} == set(own)
    for name, said in own.items():
        passed = services[name]["environment"]
        passed = {key: value for key, value in passed.items() if not key.startswith("OTEL_")}
        assert set(passed) == settings, name
        assert {key for key, value in passed.items() if value is not None} == said
    assert services["replica"]["ports"] == []
    for name in ("genserve", "genserve-gpu"):
        (mapping,) = services[name]["ports"]
        assert re.fullmatch(r"127\.0\.0\.1:\$\{PORT:-8000\}:\$\{GENSERVE_PORT:-8000\}", mapping)
    assert services["genserve-gpu"]["environment"]["GENSERVE_DEVICE"] == "cuda"
