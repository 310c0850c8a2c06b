"""The arguments of an operation from a request's query, headers and path, compiled at start-up.

Operations are declared as FastAPI has it, and FastAPI documents them. But it works out anew for
each request what the declarations say: solving the dependencies of /generate took 250 µs, more than
the model. Here that is done once for each route.

What is supported is what the operations use: parameters of the query and headers, all with a
default; those of the path, as text; and dependencies, which are plain functions of these.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request

from app.api.parameters.checks import check_names, invalid_parameters, query_errors
from app.errors import InvalidParameterError

_MAX_PARAMETERS = 100

Given = Mapping[str, str]  # a request's parameters, each given once


class _Parameter(NamedTuple):
    """One of the query or the headers."""

    argument: str
    name: str  # as requests give it
    default: Any
    parse: Callable[[str], tuple[Any, list[Any]]]  # value and pydantic's errors


class _Function:
    """What has parameters: an endpoint or a dependency."""

    def __init__(self, dependant: Dependant) -> None:
        assert dependant.call
        assert not dependant.cookie_params + dependant.body_params
        self.call, self.argument = dependant.call, dependant.name
        self.query = [_parameter(field, "query") for field in dependant.query_params]
        self.headers = [_parameter(field, "header") for field in dependant.header_params]
        self.path = [field.alias for field in dependant.path_params]
        self.request = dependant.request_param_name
        self.dependencies = [_Function(each) for each in dependant.dependencies]
        assert not any(iscoroutinefunction(each.call) for each in self.dependencies)

    def names(self, kind: str) -> list[str]:
        """All parameters of a kind, those of its dependencies after its own."""
        own = [parameter.name for parameter in getattr(self, kind)]
        return own + [name for each in self.dependencies for name in each.names(kind)]

    def arguments(
        self, query: Given, headers: Given, request: Request | None, errors: list[Any]
    ) -> dict[str, Any]:
        """The arguments, as far as they are valid; what is not is added to ``errors``."""
        values: dict[str, Any] = {}
        for each in self.dependencies:
            known = len(errors)
            inner = each.arguments(query, headers, request, errors)
            if each.argument and len(errors) == known:
                values[each.argument] = each.call(**inner)
        for parameters, given in ((self.query, query), (self.headers, headers)):
            for argument, name, default, parse in parameters:
                if name not in given:
                    values[argument] = default
                    continue
                values[argument], wrong = parse(given[name])
                errors += wrong
        if request:
            for name in self.path:
                values[name] = request.path_params[name]
            if self.request:
                values[self.request] = request
        return values


def _parameter(field: Any, place: str) -> _Parameter:
    """Compile FastAPI's field."""
    assert not field.field_info.is_required(), f"{field.alias} has no default"
    location = (place, field.alias)

    def parse(text: str) -> tuple[Any, list[Any]]:
        value, errors = field.validate(text, {}, loc=location)
        for error in errors:
            # The exception of a validator of ours. Its traceback holds frames, and those hold the
            # errors: all of it would wait for the garbage collector.
            cause = error.get("ctx", {}).get("error")
            if isinstance(cause, Exception):
                cause.__traceback__ = None
        return value, errors

    return _Parameter(field.name, field.alias, field.default, parse)


class Binding:
    """What a route's endpoint is to be called with.

    Args:
        route: Declares it.
    """

    def __init__(self, route: APIRoute) -> None:
        self._path = route.path
        self._endpoint = _Function(route.dependant)
        self.query, self.headers = self._endpoint.names("query"), self._endpoint.names("headers")
        self._header_names = {name.lower().encode(): name for name in self.headers}

    def of_request(self, request: Request) -> dict[str, Any]:
        """The arguments for a request.

        Raises:
            InvalidParameterError: a parameter is unknown, given twice, or has a wrong value.
        """
        headers = []
        for name, value in request.scope["headers"]:
            if name in self._header_names:
                headers.append((self._header_names[name], value.decode("latin-1")))
        return self.arguments(request.scope["query_string"], headers, request)

    def arguments(
        self, query: bytes, headers: Sequence[tuple[str, str]], request: Request | None = None
    ) -> dict[str, Any]:
        """The arguments for a query and headers.

        Args:
            query: As it stands in the request line.
            headers: Those of ``self.headers`` that are given, by their declared names.
            request: None = the arguments that depend on it are left out.

        Raises:
            InvalidParameterError: as of ``of_request``.
        """
        pairs = parse_query(query)
        given, given_headers = dict(pairs), dict(headers)
        if (
            len(given) < len(pairs)
            or len(given_headers) < len(headers)
            or not given.keys() <= set(self.query)
        ):
            check_names(_names(pairs), self.query, _names(headers))
        errors: list[Any] = []
        values = self._endpoint.arguments(given, given_headers, request, errors)
        if errors:
            raise invalid_parameters(query_errors(errors, self._path))
        return values


def parse_query(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a query.

    Raises:
        InvalidParameterError: there are more than any request needs.
    """
    if not query:
        return []
    if (count := query.count(b"&") + 1) > _MAX_PARAMETERS:
        raise InvalidParameterError(f"{count} parameters; at most {_MAX_PARAMETERS} are read")
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


def _names(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [name for name, _ in pairs]
