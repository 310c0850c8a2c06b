"""``deploy/ray``: its files beside what the code says, and two nodes where Ray is installed."""

import subprocess
import tempfile
from pathlib import Path

import pytest

from bench.children import BenchError
from bench.cluster import failover, ray_serve
from bench.cluster.balancers import program

DEPLOY = Path(__file__).parents[2] / "deploy/ray"

RAY_S_CONFIGURATION = """global
    maxconn 10
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend http_frontend
    bind 127.0.0.1:0
    default_backend replicas
backend replicas
    server one 127.0.0.1:1
"""


def test_the_proxy_names_the_client_and_passes_on_no_other_s_word(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(RAY_S_CONFIGURATION)
    env = {"HAPROXY": "echo", "PATH": "/usr/bin:/bin"}
    command = [str(DEPLOY / "haproxy"), "-db", "-f", str(config), "-sf", "7"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"-db -f {config} -sf 7\n"
    _, frontend = config.read_text().split("frontend http_frontend\n")
    lines = [line.strip() for line in frontend.split("\nbackend replicas\n")[0].splitlines()]
    assert lines[-3:] == ["option forwardfor", "bind 127.0.0.1:0", "default_backend replicas"]
    forwarding = {f"x-forwarded-{name}" for name in ("for", "host", "proto", "prefix")}
    deleted = [line for line in lines if line.startswith("http-request del-header ")]
    assert {line.split()[-1] for line in deleted} == {*forwarding, "forwarded"}


def test_a_configuration_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(RAY_S_CONFIGURATION.replace("http_frontend", "another"))
    env = {"HAPROXY": "echo", "PATH": "/usr/bin:/bin"}
    command = [str(DEPLOY / "haproxy"), "-f", str(config)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no 'frontend http_frontend'" in done.stderr


@pytest.mark.slow
def test_a_replica_and_a_node_killed_under_load_cost_no_request_and_change_no_image(
    tiny_store: Path,
) -> None:
    try:
        program("ray")
    except BenchError:
        pytest.skip("no ray: make deploy-ray")
    settings = {"GENSERVE_MODELS_DIR": str(tiny_store), "GENSERVE_MAX_BATCH": "8"}
    # A socket's path has at most 107 bytes, and pytest's folders are long.
    with tempfile.TemporaryDirectory() as folder:
        tally = ray_serve.under_chaos(Path(folder), settings, requests=500, kills=1, between=50)
    assert tally.failed == []
    assert tally.answered + tally.refused >= 500
    assert {len(digests) for digests in tally.digests.values()} == {1}
    assert len(tally.digests) == failover.SEEDS
