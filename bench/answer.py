"""One response of the service, without a socket: ``python -m bench.answer STORE ADDRESS > FILE``.

For a service on another processor, emulated: its headers go to stderr, its body to stdout.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import Settings


async def answer(store: Path, address: str) -> list[dict[str, Any]]:
    """The ASGI messages with which the service responds to GET."""
    app = create_app(Settings(models_dir=store, max_batch=8))
    path, _, query = address.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "root_path": "",
        "server": ("localhost", 80),
        "asgi": {"version": "3.0"},
    }
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(dict(message))

    async with app.router.lifespan_context(app):
        await app({**scope, "state": {}}, receive, send)
    return messages


def main() -> None:
    """Write the response."""
    start, *parts = asyncio.run(answer(Path(sys.argv[1]), sys.argv[2]))
    for name, value in start["headers"]:
        print(f"{name.decode()}: {value.decode()}", file=sys.stderr)
    if start["status"] != 200:
        raise SystemExit(f"status {start['status']}")
    sys.stdout.buffer.write(b"".join(part.get("body", b"") for part in parts))


if __name__ == "__main__":
    main()
