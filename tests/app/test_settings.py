"""Settings, and what a mistake in them says."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import PREFIX, Settings, UsageError, read_settings, unknown_variables

ROOT = Path(__file__).parents[2]


def run_app(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_environment_sets_and_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENSERVE_MAX_BATCH", "17")
    assert Settings().max_batch == 17
    assert Settings(max_batch=5).max_batch == 5


@pytest.mark.parametrize(
    "bad",
    [
        {"port": 70_000},
        {"max_batch": 0},
        {"max_wait_ms": -1},
        {"device": "tpu"},
        {"max_n": 10, "queue_limit": 5},
        {"colour": "red"},
    ],
)
def test_a_value_out_of_range_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**bad)  # type: ignore[arg-type]


def test_a_typing_error_in_the_environment_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENSERVE_MAX_BATHC", "5")
    monkeypatch.setenv("GENSERVE_URL", "http://127.0.0.1:8000")  # the client's
    assert unknown_variables() == ["GENSERVE_MAX_BATHC"]


def test_what_kubernetes_says_of_a_service_called_genserve_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for prefix in ("GENSERVE", "GENSERVE_GPU", "GENSERVE_V2"):
        for name, value in {
            "SERVICE_HOST": "10.96.0.7",
            "SERVICE_PORT": "80",
            "SERVICE_PORT_HTTP": "80",
            "PORT": "tcp://10.96.0.7:80",
            "PORT_80_TCP": "tcp://10.96.0.7:80",
            "PORT_80_TCP_PROTO": "tcp",
            "PORT_80_TCP_PORT": "80",
            "PORT_80_TCP_ADDR": "10.96.0.7",
            "PORT_53_UDP": "udp://10.96.0.7:53",
            "PORT_9_SCTP_ADDR": "10.96.0.7",
        }.items():
            monkeypatch.setenv(f"{prefix}_{name}", value)
    assert read_settings([]).port == 8000
    monkeypatch.setenv("GENSERVE_PORT", "8410")
    assert read_settings([]).port == 8410
    monkeypatch.setenv("GENSERVE_SERVICE_HOTS", "10.96.0.7")
    with pytest.raises(UsageError, match="GENSERVE_SERVICE_HOTS"):
        read_settings([])


@pytest.mark.parametrize(
    ("option", "meant"),
    [("--prot", "--port"), ("--model-dir", "--models-dir"), ("--trusted-proxy=::1", "--trusted-p")],
)
def test_an_option_with_a_typing_error_is_told_what_was_meant(option: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"did you mean {meant}"):
        read_settings([option])
    with pytest.raises(UsageError, match=r"unknown option --xylophone$"):
        read_settings(["--xylophone", "1"])
    assert read_settings(["--max-n=3", "--port", "1"]).max_n == 3


@pytest.mark.parametrize(
    "origin",
    ["*", "example.com", "https://example.com/", "https://*.example.com", "null", "HTTPS://A"],
)
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is no origin"):
        Settings(cors_origins=f"http://localhost:3000,{origin}")


def test_every_setting_has_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environment", "status", "says"),
    [
        (["--port", "70000"], {}, 2, "port"),
        (["--device", "tpu"], {}, 2, "device"),
        (["--prot", "1"], {}, 2, "prot"),
        ([], {PREFIX + "PROT": "1"}, 2, "GENSERVE_PROT (did you mean GENSERVE_PORT?)"),
        ([], {PREFIX + "MAXBATCH": "1"}, 2, "GENSERVE_MAXBATCH (did you mean GENSERVE_MAX_BATCH?)"),
        ([], {PREFIX + "XYLOPHONE": "1"}, 2, "GENSERVE_XYLOPHONE\n"),
        (["--models-dir", "/nonexistent"], {}, 3, "models_dir"),
        (["--default-model", "nobody"], {}, 3, "default_model"),
    ],
)
def test_a_mistake_ends_with_a_line_that_names_the_setting(
    arguments: list[str], environment: dict[str, str], status: int, says: str
) -> None:
    ended = run_app(*arguments, **environment)
    assert ended.returncode == status
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_taken_port_ends_with_a_line_that_names_it(tiny_store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_app("--port", str(port), "--models-dir", str(tiny_store))
    assert ended.returncode != 0
    assert re.search(rf"\b{port}\b", ended.stderr)
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_help_lists_every_setting() -> None:
    ended = run_app("--help")
    assert ended.returncode == 0
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in ended.stdout


def test_keys_are_read_anew_only_if_they_are_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a-key-of-the-first-day")
    settings = Settings(api_keys_file=file)
    assert settings.keys == ("a-key-of-the-first-day",)
    file.write_text("a-key-of-the-second-day")
    assert settings.with_keys_read_anew().keys == ("a-key-of-the-second-day",)
    assert settings.keys == ("a-key-of-the-first-day",)
    for text, reason in (("", "has no key"), ("short", "is not 16 to 256")):
        file.write_text(text)
        with pytest.raises(ValueError, match=reason):
            settings.with_keys_read_anew()
