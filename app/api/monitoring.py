"""For who looks after the service."""

from typing import Any

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.common import service_of
from app.api.status import status
from app.rendering.schemas import Readiness


async def livez(request: Request) -> dict[str, str]:
    """The process runs and answers, and so do the model and what feeds it."""
    service_of(request).check_alive()
    return {"status": "alive"}


async def readyz(request: Request) -> Any:
    """Every model answers a canary sent through the real queue (cached for a second).

    Being busy is no reason to be taken out of service; stopping is one.
    """
    service = service_of(request)
    await service.check_ready()
    return Readiness(ready=True, models=sorted(service.models))


async def get_status(request: Request) -> Any:
    """Queue, counts, and what each model's forward passes cost."""
    return status(service_of(request))


async def metrics(request: Request) -> Response:
    """Counters and histograms in Prometheus' text format."""
    service = service_of(request)
    service.measure()
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
