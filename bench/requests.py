"""``python -m bench requests``: CPU time of a request, by what it says.

A bare request is what benchmarks send. Production adds headers of proxies, browsers, libraries and
traces, keys and parameters, and asks for other operations. Each row is one kind of request, sent by
wrk over and over; its figure is the CPU time of all processes of the server, which holds steady
where rates drift.
"""

import base64
import json
import socket
import statistics
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import processes, proxies, report, rig, wrk
from bench.children import HOST, BenchError, Server, module
from bench.report import BARE, FASTAPI, Result, Samples
from bench.rounds import rounds

CONNECTIONS = 64
PLAIN = "plain"
_KEY = "0123456789abcdef0123456789abcdef"
_DIGEST = "DIGEST"  # of the checkpoint, known once the service runs
_TAG = "ETAG"  # of the plain image with seed 42
_SERVICES: dict[str, dict[str, str]] = {  # name -> further variables of its environment
    "ours": {},
    "with keys": {"GENSERVE_API_KEYS": f"another-key-of-another-client,{_KEY}"},
    "behind": {"GENSERVE_TRUSTED_PROXIES": "127.0.0.0/8"},
    "production": {
        "GENSERVE_TRUSTED_PROXIES": "127.0.0.0/8",
        "GENSERVE_API_KEYS": f"another-key-of-another-client,{_KEY}",
    },
}

_FORWARDED = (
    "X-Forwarded-For: 203.0.113.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: localhost",
    "X-Real-IP: 203.0.113.7",
)
_TRACE = (
    "traceparent: 00-0af7651916cd43dd8448eb21########-b7ad6b71########-01",
    "tracestate: rojo=00f067aa0ba902b7",
)
_BROWSER = (
    'sec-ch-ua: "Chromium";v="142", "Not_A Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36",
    "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: no-cors",
    "Sec-Fetch-Dest: image",
    "Referer: http://localhost/",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9,de;q=0.8",
    "Cookie: session=2f1c9a7e5b3d4f6081a2; theme=dark; _ga=GA1.1.1181921.1732966400",
)
_FETCH = (
    *_BROWSER[:4],
    "Accept: */*",
    "Origin: http://localhost",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Dest: empty",
    *_BROWSER[8:],
    "Priority: u=1, i",
)
_HTTPX = (
    "Accept: */*",
    "Accept-Encoding: gzip, deflate",
    "Connection: keep-alive",
    "User-Agent: python-httpx/0.28.1",
)
_JSON = ("Content-Type: application/json",)
_AUTHORIZATION = (f"Authorization: Bearer {_KEY}",)


class Kind(NamedTuple):
    """Requests of one row."""

    name: str
    target: str = "/generate?label=7"
    headers: tuple[str, ...] = ()
    method: str = "POST"
    body: bytes = b""
    status: int = 200
    service: str = "ours"

    def raw(self, known: dict[str, str]) -> bytes:
        """The request's bytes."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: localhost", *self.headers]
        if self.method == "POST":
            lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join([*lines, "", ""])
        for name, value in known.items():
            head = head.replace(name, value)
        return head.encode() + self.body


def _images(model: str) -> Iterator[Kind]:
    """Requests of /generate."""
    yield Kind(PLAIN)
    yield Kind("GET", method="GET")
    yield Kind("`X-Forwarded-…`, from anybody", headers=_FORWARDED)
    yield Kind("`X-Forwarded-…`, from a trusted proxy", headers=_FORWARDED, service="behind")
    yield Kind("`traceparent`, `tracestate`", headers=_TRACE)
    yield Kind("`X-Request-ID`", headers=("X-Request-ID: 5f1d########c0ffee",))
    yield Kind("`X-Timeout-Ms`", headers=("X-Timeout-Ms: 5000",))
    yield Kind("`Authorization`", headers=_AUTHORIZATION, service="with keys")
    yield Kind("headers of httpx", headers=_HTTPX)
    yield Kind("headers of a browser, `<img>`", headers=_BROWSER, method="GET")
    yield Kind("headers of a browser, `fetch`", headers=_FETCH)
    yield Kind(
        "all of it: proxy, trace, key, browser",
        headers=(*_FORWARDED, *_TRACE, *_AUTHORIZATION, *_FETCH),
        service="production",
    )
    yield Kind("`seed`", "/generate?label=7&seed=1########")
    yield Kind("`seeds`", "/generate?label=7&seeds=1########")
    yield Kind("`truncation=0.7`", "/generate?label=7&truncation=0.7")
    yield Kind("`metadata=none`", "/generate?label=7&metadata=none")
    yield Kind("`scale=8`", "/generate?label=7&scale=8")
    yield Kind("`format=npy`", "/generate?label=7&format=npy")
    yield Kind("`format=json`", "/generate?label=7&format=json")
    yield Kind("`format=webp`", "/generate?label=7&format=webp")
    yield Kind("model by name", f"/generate?label=7&model={model}")
    yield Kind("model by alias", "/generate?label=7&model=cgan")
    yield Kind(
        "model by digest, seeded", f"/generate?label=7&model={model}@{_DIGEST}&seed=1########"
    )
    yield Kind("`label=%37`", "/generate?label=%37")
    seeded = "/generate?label=7&seed=42"
    yield Kind("`If-None-Match`, another", seeded, ('If-None-Match: "x"',), "GET")
    yield Kind("304", seeded, (f"If-None-Match: {_TAG}",), "GET", status=304)
    yield Kind("`n=16`", "/generate?label=7&n=16")
    yield Kind("`n=16&format=json`", "/generate?label=7&n=16&format=json")


def _others(server: Server, model: str) -> Iterator[Kind]:
    """Other operations."""
    z = np.linspace(-1, 1, _latent_dim(server), dtype=np.float32)[None]
    file = BytesIO()
    np.save(file, z)
    _, _, png = server.ask("GET", "/generate?label=7&seed=42")
    yield Kind("404, unknown model", "/generate?model=none", status=404)
    yield Kind("404, unknown path", "/none", method="GET", status=404)
    yield Kind("422", "/generate?label=77", status=422)
    yield Kind("422, unknown parameter", "/generate?lable=7", status=422)
    yield Kind("`/decode`, JSON", "/decode", _JSON, body=json.dumps({"z": z.tolist()}).encode())
    npy = ("Content-Type: application/x-npy",)
    yield Kind("`/decode`, npy", "/decode", npy, body=file.getvalue())
    asked = {
        "inputs": [{"name": "label", "shape": [1], "datatype": "INT64", "data": [7]}],
        "outputs": [{"name": "image"}],
    }
    infer = f"/v2/models/{model}/infer"
    yield Kind("`/v2` infer, JSON", infer, _JSON, body=json.dumps(asked).encode())
    label = {"name": "label", "shape": [1], "datatype": "INT64"}
    binary = json.dumps(
        {
            "inputs": [label | {"parameters": {"binary_data_size": 8}}],
            "outputs": [{"name": "image", "parameters": {"binary_data": True}}],
        }
    ).encode()
    size = (f"Inference-Header-Content-Length: {len(binary)}",)
    yield Kind("`/v2` infer, binary", infer, size, body=binary + np.array([7]).tobytes())
    image = ("Content-Type: image/png",)
    yield Kind("`/encode`, PNG", "/encode", image, body=png)
    images = json.dumps({"images": [base64.b64encode(png).decode()]}).encode()
    yield Kind("`/encode`, JSON", "/encode", _JSON, body=images)
    yield Kind("`/reconstruct`, PNG", "/reconstruct", image, body=png)
    yield Kind("`/verify`, PNG", "/verify", image, body=png)
    yield Kind("`/livez`", "/livez", method="GET")


def _latent_dim(server: Server) -> int:
    """Dimensions of the latents that /decode reads."""
    _, _, text = server.ask("GET", "/models")
    models = json.loads(text)["models"]
    return int(next(m["latent_dim"] for m in models if "decode" in m["operations"]))


def _status(port: int, request: bytes) -> int:
    """The status of the response to these bytes."""
    with socket.create_connection((HOST, port), 30) as connection:
        connection.sendall(request.replace(b"########", b"12345678"))
        return int(connection.recv(65536).split()[1])


def run(args: Namespace) -> Result:
    """CPU µs of each kind, and their ratios to plain within the rounds."""
    samples: Samples = {}
    with ExitStack() as stack:
        folder = rig.folder(stack)
        servers: dict[str, Server] = {}
        for name, env in _SERVICES.items():
            command = module("app", "--host", "{host}", "--port", "{port}")
            command += ["--models-dir", str(rig.store(args.models_dir))]
            command += ["--workers", str(args.workers)] if args.workers else []
            # Slow machines refuse none either.
            env = {**env, "GENSERVE_MAX_QUEUE_MS": "30000", "GENSERVE_QUEUE_TARGET_MS": "30000"}
            servers[name] = Server(stack, name.replace(" ", "-"), command, folder, env)
            servers[name].wait("GET", "/readyz")
        ours = servers["ours"]
        headers = ours.fresh(f"/generate?label={args.label}")
        model = headers["X-Model"]
        _, seeded, _ = ours.ask("GET", "/generate?label=7&seed=42")
        digest = seeded["Content-Location"].partition("@")[2].partition("&")[0]
        known = {_DIGEST: digest, _TAG: seeded["ETag"]}
        kinds = [*_images(model), *_others(ours, model)]
        for name, app in ((BARE, "bare"), (FASTAPI, "fastapi")):
            servers[name] = rig.floor(stack, folder, app, args.floor_workers)
            kinds.insert(0, Kind(name, service=name))
        ports = {name: server.port for name, server in servers.items()}
        if not proxies.missing("haproxy"):
            url = stack.enter_context(proxies.running_proxy("haproxy", servers["behind"].url))
            servers["haproxy"], ports["haproxy"] = servers["behind"], int(url.rpartition(":")[2])
            kinds.insert(6, Kind("through haproxy", service="haproxy"))
        for kind in kinds:
            status = _status(ports[kind.service], kind.raw(known))
            if status != kind.status:
                raise BenchError(f"{kind.name} gave {status}, not {kind.status}")
        for number, kind, seconds in rounds(kinds, args):
            server = servers[kind.service]
            file = Path(folder, "request")
            file.write_bytes(kind.raw(known))
            url = f"http://{HOST}:{ports[kind.service]}/"
            before = processes.cpu_s(server.processes())
            try:
                told = wrk.run_raw(url, CONNECTIONS, seconds, file, kind.status)
            except BenchError:
                if number:
                    raise
                continue  # it only warms up, and a busy machine may answer nothing in a second
            used = processes.cpu_s(server.processes()) - before
            if number:
                samples.setdefault(f"{kind.name}, CPU µs", []).append(used / told["requests"] * 1e6)
                samples.setdefault(f"{kind.name}, requests/s", []).append(told["per_s"])
    for name in [kind.name for kind in kinds]:
        pairs = zip(samples[f"{name}, CPU µs"], samples[f"{PLAIN}, CPU µs"], strict=True)
        samples[f"{name} / plain"] = [cost / plain for cost, plain in pairs]
    return Result("requests", {"model": model, "connections": CONNECTIONS}, samples)


def markdown(result: Result) -> str:
    """A row for each kind of request."""
    samples = result.samples
    names = [name.removesuffix(" / plain") for name in samples if name.endswith(" / plain")]
    rows = [
        [
            name,
            report.spread(samples[f"{name}, CPU µs"], 0),
            f"{statistics.median(samples[f'{name} / plain']):.2f}",
            f"{statistics.median(samples[f'{name}, requests/s']):,.0f}",
        ]
        for name in names
    ]
    return report.table(["request", "CPU µs", "of plain", "requests/s"], rows)
