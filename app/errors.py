"""The errors of a request: each class is a problem type of RFC 9457.

Long, since it is the one list of them all.
"""

from typing import Any, ClassVar


class StartupError(Exception):
    """The service cannot start as it is set up; the message says why and what setting to change."""


STOPPED_RETRY_S = 5  # Retry-After of a process that ends: about what its successor takes to start

FieldError = dict[str, str]  # {"pointer": "?label", "detail": "..."}


def shown(value: object, limit: int = 40) -> str:
    """A value of the request for a message: quoted, printable ASCII, cut to ``limit`` characters.

    No value of a request reaches a response or a log without this.
    """
    text = str(value)
    cut = text[:limit]
    return ascii(cut) + ("…" if len(text) > limit else "")


class ServiceError(Exception):
    """An error with a status and a stable name.

    Args:
        detail: What is wrong in the terms of the request: the value, what is allowed, what to do.
        errors: The same for programs, by parameter.
        headers: Extra headers of the response.
        retry_after_s: Seconds after which trying again makes sense.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    about: ClassVar[str] = "The service failed. Its log has the details under the request id."
    # Of ``detail``.
    example: ClassVar[str] = "the service failed on this request; it is logged under its id"

    def __init__(
        self,
        detail: str,
        *,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.headers = headers or {}
        self.retry_after_s = retry_after_s
        if retry_after_s is not None:
            self.headers = {**self.headers, "Retry-After": str(retry_after_s)}

    def problem(self, request_id: str, root: str = "") -> dict[str, Any]:
        """The body of the response, ``application/problem+json``; ``root`` is the path under which
        clients find the service."""
        body: dict[str, Any] = {
            "type": f"{root}/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = self.errors
        if self.retry_after_s is not None:
            body["retry_after"] = self.retry_after_s
        return body


class MalformedBodyError(ServiceError):
    status, slug, title = 400, "malformed-body", "The body cannot be parsed"
    about = "The body is not what its Content-Type says: JSON with an error, a broken form."
    example = "the body is not JSON: Expecting value: line 1 column 1 (char 0)"


class MalformedRequestError(ServiceError):
    status, slug, title = 400, "malformed-request", "The request cannot be parsed"
    about = (
        "It is not HTTP/1.1, which the detail tells in the parser's words, or its Host header is "
        "missing, given twice or not a host. Characters outside ASCII have to be percent-encoded."
    )
    example = "Host is 'a b'; it must be given once, a name or an address, perhaps with a port"


class UnauthorizedError(ServiceError):
    status, slug, title = 401, "unauthorized", "A key is needed"
    about = (
        "This service needs a key. Send one as Authorization: Bearer KEY. The response does not "
        "say why a key was refused."
    )
    example = "send one of this service's keys as Authorization: Bearer KEY"


class CrossSiteError(ServiceError):
    status, slug, title = 403, "cross-site", "Cross-site request refused"
    about = (
        "A browser sent this request for a page of another origin, as Sec-Fetch-Site or Origin "
        "says. Otherwise any page could use this service through a visitor's browser. Requests of "
        "this service's own pages, of listed origins (cors_origins) and of programs other than "
        "browsers are accepted."
    )
    example = (
        "Origin is 'https://example.com': the request comes from a page of another origin. Send "
        "it from this service's own pages, from a program that is no browser, or through a server "
        "of your own; or have the origin listed in GENSERVE_CORS_ORIGINS"
    )


class NotFoundError(ServiceError):
    status, slug, title = 404, "not-found", "There is nothing here"
    about = "No resource has this path. The paths are listed at /docs."
    example = "nothing at '/generat'; the paths are listed at /docs"


class UnknownModelError(ServiceError):
    status, slug, title = 404, "unknown-model", "No such model"
    about = "No model of this name is loaded. GET /models lists the names."
    example = (
        "unknown model 'mnist-cgan'; available: mnist-cgan-v7, mnist-vae-v6; did you "
        "mean mnist-cgan-v7?"
    )


class MethodNotAllowedError(ServiceError):
    status, slug, title = 405, "method-not-allowed", "The resource does not take this method"
    about = "The Allow header lists the methods that it accepts."
    example = "'DELETE' is not possible here; allowed: GET, HEAD, OPTIONS, POST"


class NotAcceptableError(ServiceError):
    status, slug, title = 406, "not-acceptable", "No such representation"
    about = "The Accept header names no type that this resource can send. The detail lists those."
    example = (
        "available types: image/png, application/json, application/x-npy, "
        "application/zip, image/webp; or leave Accept out"
    )


class RequestTimeoutError(ServiceError):
    status, slug, title = 408, "request-timeout", "The request did not come in time"
    about = (
        "The headers, and then the body, must arrive completely within limits that the operator "
        "sets (header_seconds, body_seconds), however steadily they arrive."
    )
    example = "the request's body is not there after 30 s"


class BodyTooLargeError(ServiceError):
    status, slug, title = 413, "body-too-large", "The body is too large"
    about = (
        "A body has a limit in bytes. A picture has limits in pixels, frames, scans and the memory "
        "that decoding takes; they are checked before it is decoded."
    )
    example = "the body has 9000000 bytes; at most 8388608 are read"


class UriTooLongError(ServiceError):
    status, slug, title = 414, "uri-too-long", "The address is too long"
    about = "An address has 65536 bytes at most. Request a long list of seeds in parts."
    example = "the address has over 65536 bytes"


class UnsupportedMediaTypeError(ServiceError):
    status, slug, title = 415, "unsupported-media-type", "The body's type is not supported"
    about = "The operation does not read this Content-Type. The detail lists those that it reads."
    example = (
        "Content-Type is 'text/plain'; this operation reads image/png, image/jpeg, "
        "image/webp, multipart/form-data, application/json"
    )


class RangeNotSatisfiableError(ServiceError):
    status, slug, title = 416, "range-not-satisfiable", "The file ends before that"
    about = "The Range header asks for bytes beyond the file's end. Content-Range gives its length."
    example = "the file has 3136434 bytes; asked for is what follows the first 9000000"

    @classmethod
    def at(cls, first: int, length: int) -> "RangeNotSatisfiableError":
        """For a request of the bytes from ``first`` on, of a file of ``length``."""
        return cls(
            f"the file has {length} bytes; asked for is what follows the first {first}",
            headers={"Content-Range": f"bytes */{length}"},
        )


class MisdirectedRequestError(ServiceError):
    status, slug, title = 421, "misdirected-request", "The service does not answer to this name"
    about = (
        "The Host header is a public name that the operator has not listed (allowed_hosts). This "
        "stops DNS rebinding: an attacker points a name that he owns at your machine, and browsers "
        "trust his page as this service's own. IP addresses, localhost and local names always work."
    )
    example = (
        "Host is 'example.com', which this service does not answer to; ask for it by "
        "its IP address, localhost or a local name, or list the name in "
        "GENSERVE_ALLOWED_HOSTS"
    )


class InvalidParameterError(ServiceError):
    status, slug, title = 422, "invalid-parameter", "A parameter is not acceptable"
    about = "A parameter is unknown, given twice, of the wrong form or out of its range."
    example = "unknown parameter 'lable'; did you mean label?"


class UnreadableImageError(ServiceError):
    status, slug, title = 422, "unreadable-image", "The picture cannot be read"
    about = "The upload is not a whole PNG, JPEG or WebP picture."
    example = "the 5 bytes, which begin with 'hello', are not a whole PNG, JPEG or WebP picture"


class NoRecipeError(ServiceError):
    status, slug, title = 422, "no-recipe", "The picture has no recipe"
    about = (
        "There is nothing to verify: the picture does not say how this service generated it. It "
        "comes from elsewhere, or from an operation other than /generate and /dataset; or it is an "
        "animation; or it was requested with metadata=mark or none; or a program removed its "
        "metadata, as most do that resize or convert pictures."
    )
    example = (
        "the picture has no recipe of this service; those of /generate have one, and of /dataset "
        "with metadata=full, but no animations"
    )


class WrongModelError(ServiceError):
    status, slug, title = 422, "wrong-model", "This model cannot do that"
    about = "Labels need a conditional model; encoding and decoding need a VAE."
    example = "mnist-gan-v8 is unconditional and takes no label; models that do: mnist-cgan-v7"


class HeadersTooLargeError(ServiceError):
    status, slug, title = 431, "headers-too-large", "The headers are too large"
    about = "A request has 100 headers and 65536 bytes of headers at most."
    example = "the headers have over 65536 bytes; at most 100 lines and 65536 bytes are read"


class OverShareError(ServiceError):
    status, slug, title = 429, "over-share", "You have more waiting than your share"
    about = (
        "The service is overloaded, other clients are waiting too, and most of the queue is yours "
        "(a client is a key, or without keys an address). This request was refused; those that you "
        "have queued will be answered. RateLimit-Policy gives your queued images as your quota; "
        "RateLimit and Retry-After give the seconds until there should be room again. Connections "
        "and the bytes of bodies that are being received have shares, too."
    )
    example = "3277 of the 3413 queued images are yours, and others are waiting; try again in 2 s"

    @classmethod
    def of(
        cls, own: int, waiting: int, retry_after_s: int, unit: str = "images"
    ) -> "OverShareError":
        """A client has ``own`` of the ``waiting`` images, or pictures to decode, in the queue."""
        # draft-ietf-httpapi-ratelimit-headers-10
        fields = {
            "RateLimit-Policy": f'"share";q={own};qu="{unit}"',
            "RateLimit": f'"share";r=0;t={retry_after_s}',
        }
        return cls(
            f"{own} of the {waiting} queued {unit} are yours, and others are waiting; try again in "
            f"{retry_after_s} s",
            headers=fields,
            retry_after_s=retry_after_s,
        )

    @classmethod
    def of_connections(cls, own: int, limit: int) -> "OverShareError":
        """A client has ``own`` of at most ``limit`` connections."""
        return cls(
            f"{own} connections of this process are yours, and it takes {limit} of all clients; "
            "close some, or send your requests one after the other",
            retry_after_s=1,
        )

    @classmethod
    def of_datasets(cls, own: int, limit: int, retry_after_s: int) -> "OverShareError":
        """A client has ``own`` of at most ``limit`` datasets."""
        return cls(
            f"{own} datasets that are being generated are yours, and this process generates "
            f"{limit} of all clients at a time; try again in {retry_after_s} s",
            retry_after_s=retry_after_s,
        )

    @classmethod
    def of_bodies(cls, own: int, limit: int) -> "OverShareError":
        """A client has ``own`` bytes of bodies under way, where all may have ``limit``."""
        return cls(
            f"{own} bytes of request bodies under way are yours, and this process takes {limit} of "
            "all clients; try again when some are answered",
            headers={"Connection": "close"},
            retry_after_s=1,
        )


class ModelFailureError(ServiceError):
    status, slug, title = 500, "model-failure", "The model failed on this input"
    about = (
        "The forward pass raised an error for this request's rows. Other requests are not affected."
    )
    example = "mnist-cgan-v7 failed to generate (RuntimeError)"


class NotFiniteError(ServiceError):
    status, slug, title = 500, "not-finite", "The model gave values that are not finite"
    about = (
        "An output of this request's rows is infinite or not a number, so there is no image. The "
        "same request fails again; other requests are not affected."
    )
    example = "mnist-vae-v6 gave values that are not finite for this request"


class UnsupportedTransferCodingError(ServiceError):
    status, slug, title = 501, "unsupported-transfer-coding", "The transfer coding is not supported"
    about = "Of the Transfer-Encodings of HTTP/1.1 the service reads chunked alone."
    example = (
        "Transfer-Encoding is 'gzip, chunked'; send the body unencoded, with Content-Length or "
        "chunked"
    )


class OverloadedError(ServiceError):
    status, slug, title = 503, "overloaded", "The service has more to do than it can in time"
    about = (
        "The queue is full, or the wait predicted from the measured rate is longer than the "
        "service or X-Timeout-Ms allows. Nothing was computed. Try again after Retry-After "
        "seconds, when the present queue should be done."
    )
    example = "the predicted wait is 1.42 s; at most 1.00 s are allowed; try again in 2 s"


class NotReadyError(ServiceError):
    status, slug, title = 503, "not-ready", "The service is not ready"
    about = "It is stopping, or a model does not respond. Try again after Retry-After seconds."
    example = "the service is stopping"


class DeadlineExceededError(ServiceError):
    status, slug, title = 504, "deadline-exceeded", "The deadline has passed"
    about = (
        "The request was accepted, but its images were not ready within X-Timeout-Ms or the "
        "service's own limit. What was still queued was not computed."
    )
    example = (
        "the images were not ready in the time that the request has; X-Timeout-Ms asks "
        "for up to 30000"
    )


_ALL: list[type[ServiceError]] = [ServiceError, *ServiceError.__subclasses__()]
PROBLEMS = {error.slug: error for error in sorted(_ALL, key=lambda e: (e.status, e.slug))}
# The errors of operations that read a body, and of those that run a model.
OF_BODIES = (MalformedBodyError, BodyTooLargeError, UnsupportedMediaTypeError)
OF_RUNS = (
    *(OverShareError, ModelFailureError, NotFiniteError, OverloadedError, NotReadyError),
    DeadlineExceededError,
)
RAISES = "x-errors"


def raises(*errors: type[ServiceError]) -> dict[str, list[str]]:
    """The errors of an operation, for FastAPI's ``openapi_extra``; ``app.api.openapi`` writes them
    out."""
    return {RAISES: [error.slug for error in errors]}
