"""The application as a deployment of Ray Serve: ``deploy/ray/serve.yaml``, docs/how-to/ray.md.

The only module that imports Ray, which is an extra.
"""

import gc
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingContext
from ray.serve.metrics import Gauge

from app.core.telemetry import logs
from app.main import create_app
from app.process.launcher import GARBAGE
from app.process.replica import Replica, times_as_many
from app.settings import Settings


class _Gauges:
    """Hands series to Ray, which adds the replica's name: behind its proxy /metrics is that of any
    replica. Counters and buckets, too, are gauges here, since their values are totals already."""

    def __init__(self) -> None:
        self._gauges: dict[str, Gauge] = {}

    def __call__(self, name: str, about: str, labels: Mapping[str, str], value: float) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, about, tuple(labels))
        self._gauges[name].set(value, dict(labels))


class Genserve(Replica):
    """Ray calls ``check_health`` and ``record_autoscaling_stats``."""

    def __init__(self) -> None:
        settings = Settings()
        gc.set_threshold(*GARBAGE)
        logs.configure(settings.log_level)
        super().__init__(create_app(settings), settings, _Gauges())

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self.application


def replicas_wanted(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Ray's autoscaling policy: how many replicas there should be, before its bounds and delays."""
    figures = context.aggregated_metrics or {}
    times = times_as_many(*(figures.get(name, {}).values() for name in ("wait_s", "busy")))
    if times is None:
        return context.target_num_replicas, {}
    return context.current_num_replicas * times, {}


deployment = serve.deployment(serve.ingress()(Genserve), name="genserve").bind()
