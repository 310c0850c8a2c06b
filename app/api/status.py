"""What GET /status tells: queue, counts and costs, for people and pages that watch the service."""

from app import __version__
from app.core.service import Service
from app.rendering.schemas import Cost, ModelStatus, OperationStatus, Status


def status(service: Service) -> Status:
    """How things stand now, in all processes."""
    service.measure()
    sums, rates = service.metrics.sums(), service.metrics.rates()

    def operations(name: str) -> dict[str, OperationStatus]:
        return {
            operation: OperationStatus(
                images_per_second=round(rates[name, operation], 1),
                passes=[
                    Cost(images=size, milliseconds=round(seconds * 1e3, 3))
                    for size, seconds in service.engine.costs[name, operation]
                ],
                max_batch=service.engine.max_batch[name, operation],
            )
            for operation in service.engine.operations(name)
        }

    return Status(
        version=__version__,
        uptime_seconds=round(service.uptime_s, 1),
        processes=int(sums.get("genserve_processes", 0)),
        draining=service.draining,
        requests_in_flight=int(sums["genserve_requests_in_flight"]),
        queued_images=int(sums["genserve_queued_images"]),
        predicted_wait_seconds=round(sums["genserve_predicted_wait_seconds"], 4),
        requests=int(sums.get("genserve_requests_total", 0)),
        refused_requests=int(sums.get("genserve_refused_requests_total", 0)),
        images=int(sums.get("genserve_images_total", 0)),
        forward_passes=int(sums.get("genserve_forward_passes_total", 0)),
        models={
            name: ModelStatus(
                engine=model.runner.engine,
                device=model.runner.device,
                reproducibility=service.engine.grades[name],
                operations=operations(name),
            )
            for name, model in sorted(service.models.items())
        },
    )
