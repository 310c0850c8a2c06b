"""GET /livez, /readyz, /status and /metrics, for operators and their tools."""

from typing import Any

from fastapi import Request, Response

from app import __version__
from app.api.common import service_of
from app.engines.batch_plan import BatchPlan
from app.rendering.schemas import Cost, ModelStatus, OperationStatus, Readiness, Status


async def livez(request: Request) -> dict[str, str]:
    """Whether the process responds, its models included."""
    service_of(request).health.check_alive()
    return {"status": "alive"}


async def readyz(request: Request) -> Any:
    """Whether every model answers a canary sent through the real queue; cached for a second.

    A busy service is ready; one that is stopping is not.
    """
    service = service_of(request)
    await service.health.check_ready()
    return Readiness(ready=True, models=sorted(service.models))


async def get_status(request: Request) -> Any:
    """Queue, counts, and the cost of each model's forward passes, over all processes."""
    service = service_of(request)
    service.update_gauges()
    sums, rates = service.metrics.sums(), service.metrics.rates()
    return Status(
        version=__version__,
        uptime_seconds=round(service.uptime_s, 1),
        processes=int(sums.get("genserve_processes", 0)),
        draining=service.health.draining,
        requests_in_flight=int(sums["genserve_requests_in_flight"]),
        queued_images=int(sums["genserve_queued_images"]),
        predicted_wait_seconds=round(sums["genserve_predicted_wait_seconds"], 4),
        requests=int(sums.get("genserve_requests_total", 0)),
        refused_requests=int(sums.get("genserve_refused_requests_total", 0)),
        images=int(sums.get("genserve_images_total", 0)),
        forward_passes=int(sums.get("genserve_forward_passes_total", 0)),
        models={
            name: ModelStatus(
                engine=model.backend.engine,
                device=model.backend.device,
                reproducibility=service.engine.reproducibility[name],
                operations={
                    operation: _operation(
                        service.engine.plans[name, operation], rates[name, operation]
                    )
                    for operation in service.engine.operations(name)
                },
            )
            for name, model in sorted(service.models.items())
        },
    )


def _operation(plan: BatchPlan, rate: float) -> OperationStatus:
    """``rate``: images per second of full batches."""
    return OperationStatus(
        images_per_second=round(rate, 1),
        passes=[
            Cost(images=size, milliseconds=round(seconds * 1e3, 3)) for size, seconds in plan.costs
        ],
        max_batch=plan.max_batch,
    )


async def metrics(request: Request) -> Response:
    """Counters and histograms, in Prometheus' text format or OpenMetrics, as Accept says."""
    service = service_of(request)
    service.update_gauges()
    text, media = service.metrics.text(", ".join(request.headers.getlist("accept")))
    return Response(text, headers={"Content-Type": media, "Vary": "Accept"})
