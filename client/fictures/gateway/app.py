"""Puts the gateway together: routes, errors and what happens around each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from fictures.async_client import AsyncClient
from fictures.errors import FicturesError
from fictures.gateway import errors, fictures_routes, openai_routes, openapi, service_routes, tracing
from fictures.gateway.access import Access
from fictures.gateway.backend import Backend
from fictures.gateway.catalog import Catalog
from fictures.gateway.health import HealthCheck
from fictures.gateway.metrics import Metrics
from fictures.gateway.middleware import REQUEST_ID, BodyLimit, Guard, Observe
from fictures.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The gateway as an ASGI application.

    Raises:
        ConfigurationError: the file of API keys cannot be read, or Triton's address is none.
    """
    metrics = Metrics()
    access = Access(settings)
    for url in (settings.grpc_url, settings.image_grpc_url):
        client_of(url, settings)  # says now, and not when the server starts, if that is no address

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            text = await stack.enter_async_context(client_of(settings.grpc_url, settings))
            images = text
            if settings.image_grpc_url != settings.grpc_url:
                images = await stack.enter_async_context(client_of(settings.image_grpc_url, settings))
            app.state.backend = Backend(text, images, metrics)
            app.state.catalog = Catalog(text, images, settings)
            app.state.health = HealthCheck(text, images, settings)
            app.state.end_calls = stack.aclose
            yield
        await asyncio.to_thread(send_traces)

    # Its documentation page needs nothing from other servers.
    app = FastAPIOffline(
        title="Fictures AI Server",
        version=version("fictures"),
        description="Text (Gemma) and images (SDXL), by the Fictures API and by OpenAI's.",
        lifespan=lifespan,
        favicon_url="data:,",
        redoc_url=None,
    )
    app.state.settings, app.state.metrics, app.state.access = settings, metrics, access
    app.include_router(fictures_routes.router)
    app.include_router(openai_routes.router)
    app.include_router(service_routes.router)
    app.mount("/page", service_routes.PageFiles(directory=service_routes.PAGE), name="page")
    app.add_exception_handler(FicturesError, errors.on_fictures_error)
    app.add_exception_handler(RequestValidationError, errors.on_invalid_body)
    app.add_exception_handler(HTTPException, errors.on_http_exception)
    # The last that is added comes first.
    app.add_middleware(BodyLimit, most=settings.api_max_body_bytes)
    app.add_middleware(Guard, access=access)
    app.add_middleware(Observe, metrics=metrics)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],  # OpenAI's SDK sends many of its own
        expose_headers=[REQUEST_ID, "retry-after"],
    )
    send_traces = tracing.configure(app)
    openapi.complete(app, asks_for_keys=settings.api_keys_file is not None)
    return app


def client_of(url: str, settings: Settings) -> AsyncClient:
    """A client of the Triton at an address. Raises `ConfigurationError`."""
    return AsyncClient(url, timeout=settings.api_request_timeout, keepalive=settings.triton_keepalive)
