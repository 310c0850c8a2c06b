"""``create_app``: settings in, ASGI application out. Everything but the processes is wired here."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route

from app import __doc__ as about
from app import __version__
from app.api.common import root_of
from app.api.dispatch import Dispatcher
from app.api.generate import query_reader
from app.api.monitoring import livez
from app.api.openapi.document import complete
from app.api.router import build_router
from app.core.lifecycle import serving
from app.core.telemetry.logs import output_writer
from app.core.telemetry.metrics import Metrics
from app.core.telemetry.tracing import Tracing, otlp_exporter
from app.engines.aliases import read_aliases
from app.engines.loading import LoadedModels, load_and_probe
from app.errors import (
    MalformedBodyError,
    MethodNotAllowedError,
    NotFoundError,
    ServiceError,
    shown,
)
from app.http.access import Access, AccessMiddleware, Hosts, Keys, route_path
from app.http.access_log import AccessLog
from app.http.cors import cors_options
from app.http.fast_path import FastPath
from app.http.fast_request import FastRequestParser
from app.http.forwarded import ForwardedMiddleware, TrustedProxies
from app.http.middleware import RequestMiddleware, is_head
from app.oip.routes import build_oip_router
from app.settings import Settings

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"


class _PageFiles(StaticFiles):
    """Files of the page, asked for anew each time, which costs a 304: kept by age, modules of two
    versions would meet after an upgrade."""

    def file_response(self, *args: Any, **more: Any) -> Response:
        response = super().file_response(*args, **more)
        response.headers["Cache-Control"] = "no-cache"
        return response


@lru_cache(1)
def _redoc_script() -> bytes:
    """ReDoc's, which would ask another host for a logo; it hides one that cannot be read."""
    script = (package_files("fastapi_offline") / "static" / "redoc.standalone.js").read_bytes()
    return script.replace(REDOC_LOGO, b"data:,")


def create_app(
    settings: Settings,
    metrics: Metrics | None = None,
    loaded_models: Callable[[], LoadedModels] | None = None,
) -> FastAPI:
    """The application. Its lifespan loads the models and sets ``state.service``.

    ``state.fast_path`` answers fast requests without the application
    (``app.http.connection.protocol``), and ``state.access_log`` lists all.

    Args:
        settings: Of the service.
        metrics: Where it counts; None = in memory of its own.
        loaded_models: Called when the lifespan starts; None = it loads and probes them itself.
    """
    counts = metrics or Metrics()
    access_log = None
    if settings.access_log != "off":
        access_log = AccessLog(settings.access_log, output_writer().write)

    # Read once, before the workers are forked, so that all agree whatever becomes of the file.
    aliases = read_aliases(settings.models_dir)

    tracing = Tracing(otlp_exporter()) if settings.traces == "otlp" else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = loaded_models() if loaded_models else load_and_probe(settings)
        fork_server, app.state.fork_server = app.state.fork_server, None
        running = serving(loaded, settings, counts, aliases, tracing, fork_server)
        async with running as app.state.service:
            yield

    app: FastAPI = FastAPIOffline(
        title="Genserve",
        summary="Trained image generators over HTTP",
        description=about,
        version=__version__,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        # FastAPI's own would see the full route alone, and log what clients send.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        redirect_slashes=False,  # a redirect would drop the body
        docs_url=None,  # its own has an address for OAuth, always at the root
        redoc_url=None,  # its own asks another host for a logo
    )
    routers = build_router(settings), build_oip_router(settings)
    for router in routers:
        app.include_router(router)

    @app.get("/static/redoc.js", include_in_schema=False)
    def redoc_script() -> Response:
        return Response(_redoc_script(), media_type="text/javascript")

    app.mount("/static", _PageFiles(directory=STATIC), name="static")

    for path in ("/health", "/healthz"):  # what some platforms ask instead of /livez
        app.add_api_route(path, livez, include_in_schema=False)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        if root := root_of(request):
            return HTMLResponse(_page_below(root))
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = root_of(request)
        files = f"{root}/static-offline-docs"
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=f"{app.title} - Swagger UI",
            swagger_js_url=f"{files}/swagger-ui-bundle.js",
            swagger_css_url=f"{files}/swagger-ui.css",
            swagger_favicon_url=f"{files}/favicon.png",
            swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
        )

    @app.get("/redoc", include_in_schema=False)
    async def redoc(request: Request) -> HTMLResponse:
        root = root_of(request)
        files = f"{root}/static-offline-docs"
        return get_redoc_html(
            openapi_url=f"{root}/openapi.json",
            title=f"{app.title} - ReDoc",
            redoc_js_url=f"{root}/static/redoc.js",
            redoc_favicon_url=f"{files}/favicon.png",
            with_google_fonts=False,
        )

    # FastAPI documents how to replace ``app.openapi``. It keeps what it generates, so the document
    # is completed once.
    generate_document = app.openapi

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            complete(generate_document())
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
    app.state.routes = [*(route for router in routers for route in router.routes), *app.routes]
    for route in app.state.routes:
        if isinstance(route, Route):
            runs = not {"images", "latents"}.isdisjoint(getattr(route, "tags", ()))
            for method in route.methods or ():
                counts.expect_route(method, route.path, timed=runs)
    operations = [route for router in routers for route in router.routes]
    app.add_middleware(Dispatcher, routes=operations)  # innermost: added first
    # The handler only translates: RequestMiddleware answers every ServiceError.
    app.add_exception_handler(HTTPException, _on_http_error)
    hosts, keys = Hosts((settings.allowed_hosts or "").split(",")), Keys(settings.keys)
    origins = frozenset(settings.allowed_origins)
    access = Access(hosts, keys, origins)
    app.add_middleware(AccessMiddleware, access=access)
    app.add_middleware(RequestMiddleware, metrics=counts, access_log=access_log, tracing=tracing)
    if origins:
        app.add_middleware(CORSMiddleware, **cors_options(origins))
    proxies, root = TrustedProxies(settings.proxy_networks), settings.root_path
    if proxies or root:  # outermost: added last
        app.add_middleware(
            ForwardedMiddleware, proxies=proxies, root_path=root, own=_first_segments(app)
        )
    app.state.fork_server = None  # of the codec, where one is there before the lifespan starts
    parser = FastRequestParser(query_reader(operations, settings), access, proxies, root)
    app.state.fast_path = FastPath(app.state, counts, parser, root=root, tracing=tracing)
    app.state.access_log = access_log
    return app


def _first_segments(app: FastAPI) -> frozenset[str]:
    """How the paths of the application begin, up to their second slash."""
    paths = [route.path for route in app.state.routes if isinstance(route, Route | Mount)]
    return frozenset(path.split("/")[1] for path in paths)


@lru_cache(16)
def _page_below(root: str) -> str:
    """The explorer's page, with addresses below a root path."""
    return (STATIC / "index.html").read_text().replace('="/', f'="{root}/')


def _methods(request: Request) -> str:
    """All methods of the path, for ``Allow``. Starlette names those of the first route alone,
    without HEAD and OPTIONS."""
    routes = [route for route in request.app.state.routes if isinstance(route, Route)]
    path = route_path(request.scope)
    matching = [route for route in routes if route.path_regex.match(path)]
    methods = {method for route in matching for method in route.methods or ()} or {"GET"}
    return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Translate Starlette's errors: unknown path, unknown method, a body that is not what it says.
    No route has OPTIONS, which is answered here."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        path = shown(request.url.path, 60)
        raise NotFoundError(f"nothing at {path}; the paths are listed at {root_of(request)}/docs")
    if error.status_code == 405:
        allowed = _methods(request)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        method = "HEAD" if is_head(request.scope) else request.method
        message = f"{shown(method, 16)} is not possible here; allowed: {allowed}"
        raise MethodNotAllowedError(message, headers={"Allow": allowed})
    if error.status_code == 400:
        raise MalformedBodyError("the body cannot be parsed")
    log.error("request %s: unexpected status %s", request.state.request_id, error.status_code)
    raise ServiceError("the service failed on this request")
