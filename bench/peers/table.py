"""Each peer's address, the body that asks it for images, and the environment it needs."""

import json
import sysconfig
from dataclasses import dataclass, field

from bench.children import module
from bench.peers.ways import Body


def _plain(label: int, n: int) -> str:
    return json.dumps({"label": label, "n": n})


def _tensors(label: int, n: int) -> str:
    """Open Inference Protocol; a PNG cannot be text, so the answer's tensors are binary."""
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "INT64", "data": [value]}
        for name, value in (("label", label), ("n", n))
    ]
    return json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})


@dataclass(frozen=True)
class Peer:
    """How to start and to ask it."""

    name: str  # of its module in bench.peers and of its file of pins
    path: str
    body: Body = _plain
    arguments: list[str] = field(default_factory=list)  # of Python; none = run the module
    env: dict[str, str] = field(default_factory=dict)  # {folder} = the run's own
    opens_ports: bool = False  # on all addresses, whatever it is told
    batches: bool = True  # whether batch and wait can be set
    needs_torch: bool = False  # itself

    @property
    def command(self) -> list[str]:
        return self.arguments or module(f"bench.peers.{self.name}")[1:]


_ADDRESS = ["--host", "{host}", "--port", "{port}"]
PEERS = {
    peer.name: peer
    for peer in (
        Peer("mosec", "/inference"),
        Peer("litserve", "/predict"),
        Peer(
            "ray",
            "/",
            env={
                "RAY_SERVE_ENABLE_HA_PROXY": "1",
                "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
                "RAY_AUTH_MODE": "disabled",
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{folder}/haproxy.cfg",
                "RAY_SERVE_HAPROXY_SOCKET_PATH": "{folder}/haproxy.sock",
                "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "{folder}/metrics.sock",
                "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{folder}",
                "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{folder}/haproxy.state",
            },
            opens_ports=True,
        ),
        Peer(
            "bentoml",
            "/generate",
            arguments=["-m", "bentoml", "serve", "bench.peers.bentoml:Generate", *_ADDRESS],
            env={"BENTOML_DO_NOT_TRACK": "True"},
            batches=False,
        ),
        Peer("torchserve", "/predictions/generate", needs_torch=True),
        Peer(
            "pytriton",
            "/v2/models/generate/infer",
            body=_tensors,
            env={"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")},
        ),
    )
}
