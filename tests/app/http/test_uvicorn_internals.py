"""Every attribute of uvicorn and httptools that the service stands on, by name.

uvicorn documents none of them, so pyproject.toml pins it to one minor version. After an upgrade,
what is gone fails here under its name. What these subclasses newly use has to be added here.
"""

import ast
import asyncio
import inspect
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

APP = Path(__file__).parents[3] / "app"

PROTOCOL = {
    # Overridden
    "__init__",
    "_start_asgi_task",
    "connection_made",
    "connection_lost",
    "data_received",
    "eof_received",
    "on_body",
    "on_header",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "on_response_complete",
    "on_url",
    "pause_writing",
    "resume_writing",
    "send_400_response",
    "shutdown",
    # Used
    "client",
    "connections",
    "cycle",
    "cycle.disconnected",
    "cycle.keep_alive",
    "cycle.message_event",
    "cycle.message_event.set",
    "cycle.response_complete",
    "cycle.response_started",
    "cycle.scope",
    "cycle.transport",
    "expect_100_continue",
    "flow",
    "flow.pause_reading",
    "flow.read_paused",
    "flow.resume_reading",
    "flow.write_paused",
    "headers",
    "loop",
    "parser",
    "parser.feed_data",
    "parser.get_http_version",
    "parser.get_method",
    "parser.set_dangerous_leniencies",
    "parser.should_upgrade",
    "pipeline",
    "pipeline.popleft",
    "server_state",
    "server_state.default_headers",
    "server_state.total_requests",
    "timeout_keep_alive_task",
    "transport",
    "url",
    "url.decode",
    "url.startswith",
}
SERVER = {
    # Overridden
    "__init__",
    "handle_exit",
    "shutdown",
    "startup",
    # Used
    "config",
    "config.http_protocol_class",
    "config.timeout_graceful_shutdown",
    "force_exit",
    "lifespan",
    "lifespan.state",
    "server_state",
    "server_state.connections",
    "server_state.tasks",
    "servers",
    "should_exit",
}
# Of what is not uvicorn's: asyncio documents them.
_STANDARD = ("loop.", "transport.", "timeout_keep_alive_task.", "server_state.tasks.")


async def app(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


@pytest.fixture
async def protocol() -> Any:
    """uvicorn's own, after a request and its response."""
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    state = uvicorn.Server(config).server_state
    protocol = HttpToolsProtocol(config=config, server_state=state, app_state={})
    transport = Mock(**{"is_closing.return_value": False, "get_extra_info.return_value": None})
    protocol.connection_made(transport)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await asyncio.gather(*state.tasks)
    yield protocol
    protocol.connection_lost(None)


@pytest.fixture
async def server() -> uvicorn.Server:
    """uvicorn's own, after it has served."""
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    server.should_exit = True
    await server.serve()
    assert server.started
    return server


def used(folder: str, base: str, instance: object) -> set[str]:
    """What our code overrides in a subclass or reads of an instance.

    Args:
        folder: Of ``app``, to be looked through.
        base: The class, as it is named there.
        instance: Of the base itself.
    """
    names: set[str] = set()
    methods = (ast.FunctionDef, ast.AsyncFunctionDef)
    for path in (APP / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and base in map(ast.unparse, node.bases):
                names |= {item.name for item in node.body if isinstance(item, methods)}
                names |= dotted(node, "self.")
            elif isinstance(node, methods):
                for argument in node.args.args:
                    if argument.annotation and ast.unparse(argument.annotation) == base:
                        names |= dotted(node, f"{argument.arg}.")
    known = {name for name in names if hasattr(instance, name.split(".")[0])}
    return {name for name in known if not name.startswith(_STANDARD)}


def dotted(node: ast.AST, prefix: str) -> set[str]:
    """The attributes, and theirs, of what has this name."""
    texts = [ast.unparse(item) for item in ast.walk(node) if isinstance(item, ast.Attribute)]
    return {text.removeprefix(prefix) for text in texts if text.startswith(prefix)}


def reaches(instance: Any, name: str) -> bool:
    """Whether the instance has the attribute, at the end of a dotted name."""
    for part in name.split("."):
        if not hasattr(instance, part):
            return False
        instance = getattr(instance, part)
    return True


async def test_uvicorns_protocol_has_what_ours_uses(protocol: HttpToolsProtocol) -> None:
    assert [name for name in sorted(PROTOCOL) if not reaches(protocol, name)] == []
    assert used("http", "HttpToolsProtocol", protocol) == PROTOCOL


async def test_uvicorns_server_has_what_ours_uses(server: uvicorn.Server) -> None:
    assert [name for name in sorted(SERVER) if not reaches(server, name)] == []
    assert used("process", "uvicorn.Server", server) == SERVER


def test_a_protocol_is_made_from_these_arguments() -> None:
    parameters = set(inspect.signature(HttpToolsProtocol).parameters)
    assert parameters == {"config", "server_state", "app_state", "_loop"}


def test_status_lines_are_bytes_by_status() -> None:
    assert STATUS_LINE[503] == b"HTTP/1.1 503 Service Unavailable\r\n"


def test_an_error_in_a_callback_of_the_parser_is_the_context_of_what_the_parser_raises() -> None:
    class Callbacks:
        def on_url(self, _: bytes) -> None:
            raise ValueError("mine")

    with pytest.raises(httptools.HttpParserCallbackError) as caught:
        httptools.HttpRequestParser(Callbacks()).feed_data(b"GET / HTTP/1.1\r\n")
    assert isinstance(caught.value.__context__, ValueError)
