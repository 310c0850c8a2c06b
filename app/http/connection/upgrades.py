"""Requests that would rather speak another protocol (RFC 9110, section 7.8).

Java's HttpClient and ``curl --http2`` offer h2c with their first request. A server that does not
take the offer answers as if it had not been made. httptools, however, ends the message with the
head, and reads no body. So such a request's head is parsed once more, without the offer.
"""

from collections.abc import Iterable


def head_without_upgrade(
    method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The head of a request, as it would be without Upgrade.

    Args:
        method, target: Of the request.
        version: Of HTTP, such as ``1.1``.
        headers: Names in lower case, and values.
    """
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    for name, value in headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            value = b", ".join(option for option in options if option.lower() != b"upgrade")
        if name != b"upgrade":
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"
