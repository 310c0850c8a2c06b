"""Compiled parameters beside FastAPI's own: the same arguments, and the same errors."""

import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import APIRouter
from fastapi.dependencies.utils import solve_dependencies
from fastapi.routing import APIRoute
from starlette.requests import Request

from app.api.parameters.binding import Binding
from app.api.parameters.checks import invalid_parameters, query_errors
from app.api.router import build_router
from app.errors import InvalidParameterError
from app.oip.routes import build_oip_router
from app.settings import Settings
from tests.app.parameters import header_values, query_values


def routes(*routers: APIRouter) -> Iterator[APIRoute]:
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield route


ALL = list(routes(build_router(Settings()), build_oip_router(Settings())))
ROUTES = [route for route in ALL if not route.param_convertors]


async def fastapi_arguments(route: APIRoute, request: Request) -> dict[str, Any]:
    """What FastAPI would call the endpoint with."""
    async with AsyncExitStack() as stack:
        for name in ("fastapi_inner_astack", "fastapi_function_astack"):
            request.scope[name] = stack
        solved = await solve_dependencies(
            request=request,
            dependant=route.dependant,
            async_exit_stack=stack,
            embed_body_fields=False,
        )
    if solved.errors:
        raise invalid_parameters(query_errors(solved.errors, route.path))
    return solved.values


@pytest.mark.parametrize("route", ROUTES, ids=[route.operation_id for route in ROUTES])
async def test_arguments_and_errors_are_those_of_fastapi(route: APIRoute) -> None:
    binding, chance = Binding(route), random.Random(route.operation_id)
    outcomes = set()
    for _ in range(40):
        query = {name: chance.choice(query_values(name)) for name in binding.query}
        some = chance.sample(list(query), chance.randint(0, min(4, len(query))))
        headers = {
            n: chance.choice(header_values(n)) for n in binding.headers if chance.random() < 0.3
        }
        scope = {
            "type": "http",
            "query_string": urlencode({name: query[name] for name in some}).encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        request = Request(scope)
        found: list[Any] = []
        for arguments in (binding.of_request, None):
            try:
                values = (
                    arguments(request) if arguments else await fastapi_arguments(route, request)
                )
                found.append({name: value for name, value in values.items() if name != "request"})
            except InvalidParameterError as error:
                found.append((error.detail, error.errors))
        assert found[0] == found[1], scope
        outcomes.add(isinstance(found[0], dict))
    assert True in outcomes
    assert outcomes == {True, False} or not (binding.query or binding.headers)


@pytest.mark.parametrize("route", ALL, ids=[route.operation_id for route in ALL])
async def test_every_operation_is_called_by_the_dispatcher(
    client: httpx.AsyncClient, route: APIRoute
) -> None:
    """FastAPI's own way would not refuse a parameter that the operation does not have."""
    path = route.path_format.format(**dict.fromkeys(route.param_convertors, "x"))
    (method,) = route.methods or {""}
    response = await client.request(method, f"{path}?surely=1")
    assert response.status_code == (400 if path.startswith("/v2") else 422)
    assert "unknown parameter 'surely'" in response.text
