"""Two servers that only answer a constant picture: what any answer costs before its content."""

from io import BytesIO
from typing import Any

from fastapi import FastAPI, Response
from PIL import Image

_file = BytesIO()
Image.linear_gradient("L").resize((28, 28)).save(_file, "PNG")
PNG = _file.getvalue()
_HEADERS = [(b"content-type", b"image/png"), (b"content-length", str(len(PNG)).encode())]


async def bare(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    """Floor A: an ASGI application that looks at nothing."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": PNG})


fastapi = FastAPI()


@fastapi.post("/generate")
async def generate() -> Response:
    """Floor F: FastAPI's shortest route; a validated parameter would lower it by a tenth."""
    return Response(PNG, media_type="image/png")
