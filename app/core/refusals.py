"""Refusals of the batcher: as the metrics call them, and in the client's words."""

from app.batching.admission import OverloadError
from app.errors import OverloadedError, OverShareError, ServiceError


def refusal_reason(error: OverloadError) -> str:
    """Why the batcher refused a request, as the metrics call it."""
    return error.reason if error.own_rows is None else "share"


def overloaded(error: OverloadError, waiting: int) -> ServiceError:
    """A refusal of the batcher in the client's words.

    Args:
        error: The refusal.
        waiting: Images that wait.
    """
    if error.own_rows is not None:
        return OverShareError.of(error.own_rows, waiting, error.retry_after_s)
    detail = {
        "queue": f"{waiting} images are waiting, and there is no room for these",
        "wait": f"the predicted wait is {error.predicted_s:.2f} s; "
        f"at most {error.allowed_s:.2f} s are allowed",
        "deadline": f"the images are predicted in {error.predicted_s:.2f} s; "
        f"this request leaves {error.allowed_s:.2f} s",
    }[error.reason]
    return OverloadedError(
        f"{detail}; try again in {error.retry_after_s} s", retry_after_s=error.retry_after_s
    )
