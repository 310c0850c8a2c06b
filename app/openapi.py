"""``python -m app.openapi``: the OpenAPI document, as docs/openapi.json has it."""

import json

from app.main import create_app
from app.settings import Settings


def document() -> str:
    """The document as text. Of the settings it tells the limits alone, and of models nothing, so
    that with the default settings it is the same everywhere."""
    return json.dumps(create_app(Settings()).openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(document(), end="")
