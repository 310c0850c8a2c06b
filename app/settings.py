"""The settings of the service: name, default, range, unit and meaning of each.

Read once, from the environment (``GENSERVE_PORT=9000``) or the command line
(``python -m app --port 9000``), which wins. Long, since it is the one list of them all.
"""

import difflib
import errno
import ipaddress
import os
import re
import stat
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

PREFIX = "GENSERVE_"
DEFAULT_CODEC_MEMORY = 384 * 2**20  # bytes: a lossless WebP of 20 megapixels, a PNG of 80
_LINK = re.compile(
    r"GENSERVE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")  # of GENSERVE_PORT, GENSERVE_GPU_PORT
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ROOT_PATH = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
_MAX_KEYS_BYTES = 2**20
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")  # what a bearer token may be (RFC 6750, 2.1)


def _default_store() -> Path:
    """``models_store`` beside the packages (a checkout, the image), else inside the wheel."""
    package = Path(__file__).parent
    beside = package.parent / "models_store"
    return beside if beside.is_dir() else package / "_models_store"


def _networks(texts: str | None) -> tuple[Network, ...]:
    """Networks with commas between.

    Raises:
        ValueError: one is none.
    """
    given = (text.strip() for text in (texts or "").split(","))
    return tuple(ipaddress.ip_network(text) for text in given if text)


class UsageError(Exception):
    """A setting is wrong; the message names it, in one line."""


def _small_text(path: Path) -> str:
    """A regular file, or a link to one, as mounted secrets are; a pipe or device may never end.

    Raises:
        OSError, UnicodeError: it cannot be read, is no such file, too large, or no UTF-8.
    """
    opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # Windows has none
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        with open(opened, "rb", closefd=False) as file:
            data = file.read(_MAX_KEYS_BYTES + 1)
    finally:
        os.close(opened)
    if len(data) > _MAX_KEYS_BYTES:
        raise OSError(errno.EFBIG, f"it has over {_MAX_KEYS_BYTES} bytes")
    return data.decode()


class Settings(BaseSettings):
    """Serves trained image generators over HTTP."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_prog_name="python -m app",
        cli_hide_none_type=True,
    )

    host: str = Field(
        default="127.0.0.1", description="address to listen on; 0.0.0.0 = all of IPv4, :: = all"
    )
    allowed_hosts: str | None = Field(
        default=None,
        description="comma-separated public host names of the service; *.name = every name below "
        "it, * = any; IP addresses, localhost and local names are always allowed",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="comma-separated API keys, of which a request sends one as Authorization: "
        "Bearer KEY; none = open to everyone; other users of the machine can read options, not "
        "variables",
    )
    api_keys_file: Path | None = Field(default=None, description="file with API keys, one a line")
    cors_origins: str | None = Field(
        default=None,
        description="comma-separated origins, such as https://example.com, whose pages may use "
        "this service from a browser (CORS); none = no page of another origin",
    )
    trusted_proxies: str | None = Field(
        default=None,
        description="comma-separated networks or addresses of proxies, such as 10.0.0.0/8,::1, "
        "whose X-Forwarded-For, -Host, -Proto and -Prefix are believed; none = nobody's",
    )
    root_path: str = Field(
        default="",
        description="path under which a proxy serves this service, such as /api; it is part of "
        "every address that the service writes",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 = any free one")
    models_dir: Path = Field(
        default=_default_store(), description="folder of *.safetensors checkpoints to serve"
    )
    cache_dir: Path | None = Field(
        default=None,
        description="folder in which measured times of the models are kept, so that the next start "
        "is faster; none = no file is written",
    )
    default_model: str | None = Field(
        default=None,
        description="model of a request that names none, or its alias; none = the alias default "
        "of aliases.txt in the store, else the only conditional model",
    )
    engine: Literal["auto", "onnx", "torch"] = Field(
        default="auto",
        description="library that runs the models; auto = PyTorch on a GPU if both are there, "
        "else ONNX Runtime for models exported to it, else PyTorch",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="where models run; auto = the GPU if PyTorch is installed and finds one, else "
        "the CPU",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="processes that share the port, each with the models and a queue of its own; "
        "none = one for each usable core, fewer where the memory limit requires it (Linux), one "
        "on a GPU",
    )
    reload: Literal["signal", "watch"] | None = Field(
        default=None,
        description="when the store, its aliases and the API keys are loaded anew (Linux): signal "
        "= at SIGHUP, watch = also when a file of the store changes; none = at SIGHUP, where there "
        "are several workers",
    )
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads of one forward pass")
    max_batch: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="maximum images in one forward pass; none = as many as take 5 ms on ONNX "
        "Runtime, 10 ms on PyTorch, as measured at start-up",
    )
    max_wait_ms: float = Field(
        default=0,
        ge=0,
        le=1000,
        description="milliseconds that a batch waits to fill, from its first image; 0 = batch "
        "what queues up while the model is busy",
    )
    queue_limit: int = Field(
        default=4096,
        ge=1,
        le=10**6,
        description="maximum images waiting; further requests are refused with 503",
    )
    max_queue_ms: float = Field(
        default=1000,
        ge=0,
        le=3_600_000,
        description="maximum milliseconds in the queue, predicted from the measured rate; a "
        "request that would wait longer is refused with 503",
    )
    queue_target_ms: float = Field(
        default=75,
        ge=0,
        le=3_600_000,
        description="the same for a queue that stands, because more is asked for than can be done: "
        "one that has been longer than half of this for 0.05 s; max_queue_ms or more = no "
        "difference",
    )
    max_share: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="fraction of the queue space left by others that one client (an API key, or "
        "without keys an IP address) may fill; of connections and of bytes of bodies, too; 1 = all",
    )
    max_timeout_ms: int = Field(
        default=30_000,
        ge=1,
        le=3_600_000,
        description="milliseconds after which a request is given up with 504; X-Timeout-Ms can "
        "ask for less",
    )
    hang_seconds: float = Field(
        default=5,
        gt=0,
        le=3600,
        description="seconds after which a forward pass counts as hung: waiting requests get 503, "
        "/livez fails, and the process ends with status 4, at once or half a minute later",
    )
    max_n: int = Field(default=64, ge=1, le=4096, description="maximum images of one request")
    max_dataset_n: int = Field(
        default=1_000_000, ge=1, le=10**8, description="maximum images of one dataset"
    )
    max_datasets: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="maximum datasets generated at a time by each process; more are refused with "
        "503, and those over a client's share with 429",
    )
    max_body_bytes: int = Field(
        default=8 * 2**20, ge=1024, le=2**30, description="maximum bytes of a request body"
    )
    max_bodies_bytes: int | None = Field(
        default=None,
        ge=1024,
        le=2**36,
        description="maximum bytes of all request bodies that a process holds at a time; more are "
        "refused with 503; none = eight times max_body_bytes",
    )
    max_pixels: int = Field(
        default=100_000_000,
        ge=784,
        le=10**9,
        description="maximum pixels, width times height, of all pictures of one request together; "
        "codec_memory_bytes may hold fewer, by format",
    )
    max_side: int = Field(
        default=20_000, ge=28, le=10**6, description="maximum pixels of a picture's side"
    )
    max_frames: int = Field(
        default=100,
        ge=1,
        le=10**5,
        description="maximum frames of an animated PNG or WebP, of which the first is read",
    )
    max_scans: int = Field(
        default=32,
        ge=1,
        le=10**4,
        description="maximum scans of a progressive JPEG; programs write about 10",
    )
    max_chunks: int = Field(
        default=8192,
        ge=16,
        le=10**6,
        description="maximum chunks of a PNG or WebP, or segments of a JPEG",
    )
    max_metadata_bytes: int = Field(
        default=2**20,
        ge=0,
        le=2**30,
        description="maximum bytes that a PNG's compressed texts and profiles inflate to; they "
        "are not used",
    )
    max_expansion: int = Field(
        default=10_000,
        ge=1,
        le=10**9,
        description="maximum bytes of pixels for each byte of a picture's file; up to 16 MiB of "
        "pixels are always allowed",
    )
    codec_processes: int = Field(
        default=2,
        ge=1,
        le=64,
        description="processes of each worker that decode large uploads, parse large JSON "
        "bodies and encode large pictures",
    )
    codec_memory_bytes: int | None = Field(
        default=None,
        ge=64 * 2**20,
        le=2**40,
        description="bytes of memory that all of these may use together, of which one picture may "
        "use all but 64 MiB; none = 384 MiB, less where the memory limit requires it",
    )
    codec_queue: int = Field(
        default=64,
        ge=1,
        le=10**5,
        description="maximum pictures of each worker that wait for such a process; further ones "
        "are refused with 503",
    )
    max_connections: int = Field(
        default=2048,
        ge=1,
        le=10**6,
        description="maximum connections of each process; for a new one beyond, an idle one is "
        "closed; if none is idle, only /livez and /readyz are answered, all else gets 503",
    )
    header_seconds: float = Field(
        default=10,
        gt=0,
        le=3600,
        description="seconds within which the headers of a request must arrive",
    )
    body_seconds: float = Field(
        default=30,
        gt=0,
        le=3600,
        description="seconds within which its body must then arrive; large uploads over slow "
        "lines need more",
    )
    keep_alive_seconds: float = Field(
        default=75,
        gt=0,
        le=3600,
        description="seconds that an idle connection is kept for its next request; longer than a "
        "proxy keeps its own to the service, else a request can meet the closing",
    )
    stall_seconds: float = Field(
        default=30,
        gt=0,
        le=3600,
        description="seconds after which a client that does not read its response is "
        "disconnected; 64 KiB are buffered for it",
    )
    drain_delay_seconds: float = Field(
        default=0,
        ge=0,
        le=3600,
        description="seconds after SIGTERM during which requests are accepted although /readyz "
        "already fails; set it to the time that a load balancer needs to notice",
    )
    drain_seconds: int = Field(
        default=20,
        ge=0,
        le=3600,
        description="seconds that accepted requests then have to finish",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level of what is logged, to standard error"
    )
    access_log: Literal["off", "common", "json"] = Field(
        default="off",
        description="a line for each response to standard output: time, client, method, path "
        "without query, status, bytes, request id, milliseconds in all, in the queue and in the "
        "model; in the common log format or as JSON",
    )

    traces: Literal["off", "otlp"] = Field(
        default="off",
        description="otlp: spans of requests and batches for OpenTelemetry, sent as its own "
        "variables (OTEL_...) say; needs the extra otel",
    )

    @cached_property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins of ``cors_origins``."""
        return tuple(filter(None, (text.strip() for text in (self.cors_origins or "").split(","))))

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: str | None) -> str | None:
        for origin in filter(None, (text.strip() for text in (value or "").split(","))):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin: name each as a browser sends it, such as "
                    "https://example.com or http://localhost:3000; any (*) is not possible"
                )
        return value

    @cached_property
    def proxy_networks(self) -> tuple[Network, ...]:
        """The networks of ``trusted_proxies``."""
        return _networks(self.trusted_proxies)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of ``api_keys`` and ``api_keys_file``; empty = open to everyone."""
        given: list[str] = []
        if self.api_keys is not None:
            given += self.api_keys.get_secret_value().split(",")
        if self.api_keys_file is not None:
            given += _small_text(self.api_keys_file).splitlines()
        return tuple(dict.fromkeys(key.strip() for key in given if key.strip()))

    def with_keys_read_anew(self) -> "Settings":
        """The same with the present keys of ``api_keys_file``.

        Raises:
            ValueError: they cannot be read, or are no keys.
        """
        fresh = self.model_copy()
        vars(fresh).pop("keys", None)
        fresh._check_keys()
        return fresh

    @model_validator(mode="after")
    def _keys_are_keys(self) -> "Settings":
        self._check_keys()
        return self

    def _check_keys(self) -> None:
        """Error messages name the setting, never a key."""
        if self.api_keys is None and self.api_keys_file is None:
            return
        name = "api_keys" if self.api_keys_file is None else "api_keys_file"
        try:
            keys = self.keys
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ValueError(f"api_keys_file ({self.api_keys_file}): {why}") from None
        if not keys:
            raise ValueError(f"{name} has no key; leave it out for a service open to everyone")
        if not all(_KEY.fullmatch(key) for key in keys):
            raise ValueError(
                f"a key of {name} is not 16 to 256 letters, digits and -._~+/=; generate one with: "
                "openssl rand -hex 32"
            )

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, value: str | None) -> str | None:
        try:
            _networks(value)
        except ValueError as error:
            raise ValueError(
                f"{error}; networks and addresses are allowed, such as 10.0.0.0/8,192.168.1.7,::1"
            ) from None
        return value

    @field_validator("root_path")
    @classmethod
    def _root_path_is_a_path(cls, value: str) -> str:
        path = value.removesuffix("/")
        if not ROOT_PATH.fullmatch(path):
            raise ValueError(
                f"{value!r} is no path such as /api: it begins with a slash, and its parts have "
                "letters, digits and ._~-"
            )
        return path

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.max_bodies_bytes is not None and self.max_body_bytes > self.max_bodies_bytes:
            raise ValueError(
                f"max_body_bytes ({self.max_body_bytes}) is over max_bodies_bytes "
                f"({self.max_bodies_bytes}): such a body could never be accepted"
            )
        if self.max_n > self.queue_limit:
            raise ValueError(
                f"max_n ({self.max_n}) is over queue_limit ({self.queue_limit}): a request for "
                "so many images could never be accepted"
            )
        return self


def read_settings(arguments: list[str]) -> Settings:
    """Settings from the environment and the command line. ``--help`` prints them and exits.

    Raises:
        UsageError: one is unknown, or its value is not allowed.
    """
    _ignore_service_links()
    if unknown := unknown_variables():
        known = [PREFIX + name.upper() for name in Settings.model_fields]
        named = ", ".join(name + _suggestion(name, known) for name in unknown)
        raise UsageError(f"unknown setting in the environment: {named}")
    for argument in arguments:
        option = argument.partition("=")[0]
        if option.startswith("--") and option not in _options():
            raise UsageError(f"unknown option {option}{_suggestion(option, _options())}")
    try:
        return CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    except SettingsError as error:
        raise UsageError(str(error)) from None


def unknown_variables() -> list[str]:
    """Environment variables with our prefix that name no setting: most likely typing errors.
    GENSERVE_URL and GENSERVE_KEY are the client's."""
    known = {PREFIX + name.upper() for name in (*Settings.model_fields, "url", "key")}
    return sorted(k for k in os.environ if k.upper().startswith(PREFIX) and k.upper() not in known)


def _ignore_service_links() -> None:
    """Remove what Kubernetes and Docker add for a service called genserve, or genserve-something:
    GENSERVE_SERVICE_HOST, GENSERVE_PORT=tcp://10.0.0.1:80, GENSERVE_PORT_80_TCP_ADDR and so on."""
    for name, value in list(os.environ.items()):
        if name.startswith(PREFIX) and (_LINK.fullmatch(name) or _LINK_VALUE.match(value)):
            del os.environ[name]


def _options() -> list[str]:
    """The options of the command line."""
    return ["--help", *(f"--{name.replace('_', '-')}" for name in Settings.model_fields)]


def _suggestion(name: str, known: Iterable[str]) -> str:
    """What was most likely meant, in parentheses; empty if nothing is similar."""
    # Longer than the default allows for, because all begin alike.
    similar = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f" (did you mean {similar[0]}?)" if similar else ""
