"""Every knob of the service: name, default, unit, sentence.

Read once, from the environment (``GENSERVE_PORT=9000``) or the command line
(``python -m app --port 9000``), which wins.
"""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

PREFIX = "GENSERVE_"
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")  # what a bearer token may be (RFC 6750, 2.1)


def _default_store() -> Path:
    """``models_store`` beside the packages (a checkout, the image), else inside the wheel."""
    package = Path(__file__).parent
    beside = package.parent / "models_store"
    return beside if beside.is_dir() else package / "_models_store"


class UsageError(Exception):
    """A setting is wrong; the message names it, in one line."""


class Settings(BaseSettings):
    """Serves trained image generators over HTTP."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_prog_name="python -m app",
        cli_hide_none_type=True,
    )

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 = all")
    allowed_hosts: str | None = Field(
        default=None,
        description="public names under which the service is asked, with commas between, *.name "
        "for all below it, * for any; IP addresses, localhost and local names always work",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="keys, with commas between, of which requests must show one as Authorization: "
        "Bearer; none = open to all; as an option, others on the machine can see them",
    )
    api_keys_file: Path | None = Field(
        default=None, description="file with such keys, one a line, instead"
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 = any free one")
    models_dir: Path = Field(
        default=_default_store(), description="folder of *.safetensors checkpoints to serve"
    )
    default_model: str | None = Field(
        default=None,
        description="model of a request that names neither model nor label; "
        "none = the first conditional one, else the first by name",
    )
    engine: Literal["auto", "onnx", "torch"] = Field(
        default="auto",
        description="what runs the models; auto = torch on a GPU where torch is installed and "
        "finds one, else ONNX Runtime for what was exported to it, else torch",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="where models run; auto = the GPU where torch is installed and finds one, "
        "else the CPU",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="processes that share the port, each with the models and a queue of its own; "
        "none = one for each core that the process may use, as far as its memory limit has room "
        "(Linux), but one on a GPU",
    )
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads of one forward pass")
    max_batch: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="images in one forward pass at most; none = as many as the operation does "
        "in 5 ms on ONNX Runtime, in 10 on torch, by the times measured at start-up",
    )
    max_wait_ms: float = Field(
        default=0,
        ge=0,
        le=1000,
        description="milliseconds that a batch waits to fill, from its first image; "
        "0 = batch what is queued while the device works",
    )
    queue_limit: int = Field(
        default=4096,
        ge=1,
        le=10**6,
        description="images waiting at most; more are refused with 503",
    )
    max_queue_ms: float = Field(
        default=1000,
        ge=0,
        le=3_600_000,
        description="milliseconds that a request may have to wait behind others, as predicted from "
        "the measured rate; longer is refused with 503",
    )
    max_share: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="of the room that others leave in the queue, how much one client (a key, or "
        "without keys an address) may fill; what stays free is for who comes next; 1 = all",
    )
    max_timeout_ms: int = Field(
        default=30_000,
        ge=1,
        le=3_600_000,
        description="milliseconds in which a request is answered or given up with 504; "
        "X-Timeout-Ms can ask for less",
    )
    hang_seconds: float = Field(
        default=5,
        gt=0,
        le=3600,
        description="seconds after which a forward pass counts as hung: who waits is answered with "
        "503, and /livez turns red, for half a minute at most, or (after 10 s at most) the process "
        "ends; its status is 4",
    )
    max_n: int = Field(default=64, ge=1, le=4096, description="images of one request at most")
    max_dataset_n: int = Field(
        default=1_000_000, ge=1, le=10**8, description="images of one dataset at most"
    )
    max_datasets: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="datasets being made at a time by each process; more are refused with 503",
    )
    max_body_bytes: int = Field(
        default=8 * 2**20, ge=1024, le=2**30, description="bytes of one request's body at most"
    )
    max_pixels: int = Field(
        default=16_000_000,
        ge=784,
        le=10**9,
        description="width times height of all pictures of one upload together",
    )
    max_connections: int = Field(
        default=2048,
        ge=1,
        le=10**6,
        description="connections of each process; beyond, one that is idle makes room, else all "
        "but /livez and /readyz is refused with 503",
    )
    header_seconds: float = Field(
        default=10,
        gt=0,
        le=3600,
        description="seconds in which a request's headers have to come, however steadily they do",
    )
    body_seconds: float = Field(
        default=30,
        gt=0,
        le=3600,
        description="seconds in which its body then has to come; slow lines want more for large "
        "pictures",
    )
    stall_seconds: float = Field(
        default=30,
        gt=0,
        le=3600,
        description="seconds in which a client that has been sent more than fits in the buffers "
        "(64 KiB of ours) has to take it; then the connection is cut",
    )
    drain_delay_seconds: float = Field(
        default=0,
        ge=0,
        le=3600,
        description="seconds after SIGTERM in which requests are still accepted while /readyz is "
        "red already; set it to what a load balancer takes to notice",
    )
    drain_seconds: int = Field(
        default=20,
        ge=0,
        le=3600,
        description="seconds that accepted requests then get to finish",
    )

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of ``api_keys`` and ``api_keys_file``; empty = open to all."""
        given: list[str] = []
        if self.api_keys is not None:
            given += self.api_keys.get_secret_value().split(",")
        if self.api_keys_file is not None:
            given += self.api_keys_file.read_text().splitlines()
        return tuple(dict.fromkeys(key.strip() for key in given if key.strip()))

    @model_validator(mode="after")
    def _keys_are_keys(self) -> "Settings":
        """Messages name the setting and never a key."""
        if self.api_keys is None and self.api_keys_file is None:
            return self
        name = "api_keys" if self.api_keys_file is None else "api_keys_file"
        try:
            keys = self.keys
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ValueError(f"api_keys_file ({self.api_keys_file}): {why}") from None
        if not keys:
            raise ValueError(f"{name} has no key; leave it out for a service open to all")
        if not all(_KEY.fullmatch(key) for key in keys):
            raise ValueError(
                f"a key of {name} is not of 16 to 256 letters, digits and -._~+/=; make one with: "
                "openssl rand -hex 32"
            )
        return self

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.max_n > self.queue_limit:
            raise ValueError(
                f"max_n ({self.max_n}) is over queue_limit ({self.queue_limit}): "
                "such a request could never be accepted"
            )
        return self


def read_settings(arguments: list[str]) -> Settings:
    """Settings from the environment and the command line. ``--help`` prints them and exits.

    Raises:
        UsageError: one is unknown, or its value is not allowed.
    """
    if unknown := unknown_variables():
        raise UsageError(f"unknown setting in the environment: {', '.join(unknown)}")
    try:
        return CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    except SettingsError as error:
        raise UsageError(str(error)) from None


def unknown_variables() -> list[str]:
    """Environment variables with our prefix that name no setting: most likely typing errors. Those
    of ``genserve`` are none: who serves may ask as well."""
    known = {PREFIX + name.upper() for name in (*Settings.model_fields, "url", "key")}
    return sorted(k for k in os.environ if k.upper().startswith(PREFIX) and k.upper() not in known)
