"""Calls operations: finds the route, binds its arguments, sends what the endpoint returns.

FastAPI has the same routes and writes the OpenAPI document from them. Its own way to an endpoint
matches every route in turn and solves dependencies, which took longer than the model.
"""

import re
from collections.abc import Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.parameters.binding import Binding
from app.formats.media_types import JSON
from app.http.access import route_path


class _Operation:
    """One route, ready to be called."""

    def __init__(self, route: APIRoute) -> None:
        self.route = route
        self._bind = Binding(route).of_request
        self._endpoint = route.endpoint
        self._field = route.response_field

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self.route
        request = Request(scope, receive, send)
        content = await self._endpoint(**self._bind(request))
        response = content if isinstance(content, Response) else self._as_json(content)
        await response(scope, receive, send)

    def _as_json(self, content: Any) -> Response:
        """What an endpoint returns, in the form that its route declares."""
        assert self._field
        checked, errors = self._field.validate(content, {}, loc=("response",))
        assert not errors, errors
        return Response(self._field.serialize_json(checked), media_type=JSON)


class Dispatcher:
    """ASGI: the operations, and another application for all other requests.

    Args:
        app: The other application; it says what is wrong with a path or a method.
        routes: Of the operations.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self._fixed: dict[tuple[str, str], _Operation] = {}
        self._templates: list[tuple[str, re.Pattern[str], _Operation]] = []
        for route in routes:
            assert isinstance(route, APIRoute)
            operation = _Operation(route)
            for method in route.methods or ():
                if route.param_convertors:
                    self._templates.append((method, route.path_regex, operation))
                else:
                    self._fixed[method, route.path] = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._found(scope) or self.app)(scope, receive, send)

    def _found(self, scope: Scope) -> _Operation | None:
        if scope["type"] != "http":
            return None
        method, path = scope["method"], route_path(scope)
        if operation := self._fixed.get((method, path)):
            return operation
        for allowed, pattern, operation in self._templates:
            if method == allowed and (match := pattern.match(path)):
                scope["path_params"] = match.groupdict()
                return operation
        return None
