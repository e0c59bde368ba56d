"""Triton's lifecycle of the image engine: load, execute, unload.

Triton imports this file twice, once only to complete the model's configuration, so whatever is heavy is
imported in `initialize`.
"""

import locale
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The stub starts Python without a locale, and torch reads its own sources with the locale's encoding.
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        from image_engine.config import ModelSetup
        from image_engine.engine import ImageEngine
        from image_engine.metrics import Metrics

        setup = ModelSetup.load(args, Path(__file__).parent)
        self._defaults = setup.settings.defaults
        self._metrics = Metrics(setup.metric_labels)
        self._engine = ImageEngine(setup, self._metrics, pb_utils.Logger)
        self._engine.start()

    def execute(self, requests: list[Any]) -> None:
        from image_engine.errors import ImageError, InternalError
        from image_engine.origin import readable_id
        from image_engine.responses import ResponseStream

        for request in requests:
            stream = ResponseStream(request.get_response_sender(), request.requested_output_names())
            try:
                self._take(request, stream)
            except ImageError as error:
                self._metrics.failed(error.code.lower())
                stream.fail(error)
            except Exception as error:
                pb_utils.Logger.log_error(f"[image] request {readable_id(request)} could not be read: {error!r}")
                self._metrics.failed("internal")
                stream.fail(InternalError(f"the request could not be read: {error!r}"))

    def _take(self, request: Any, stream: Any) -> None:
        from image_engine import request as image_request
        from image_engine.request import CANCEL, HEALTH_CHECK, RELAYED, ImageRequest, flag

        parameters = image_request.read_parameters(request)
        stream.relayed = flag(parameters, RELAYED)
        image_request.check_parameters(parameters)
        if CANCEL in parameters:
            self._engine.cancel(parameters[CANCEL])
            stream.send_empty()
        elif flag(parameters, HEALTH_CHECK):
            self._engine.check()
            stream.send_empty()
        else:
            parsed = ImageRequest.parse(request, parameters, self._defaults)
            if parsed.relayed:
                stream.send_acceptance()
            self._engine.submit(parsed, stream)

    def is_ready(self) -> bool:
        """Asked by Triton versions that let a Python model speak for its own readiness."""
        return self._engine.is_ready

    def finalize(self) -> None:
        self._engine.stop()
        self._metrics.remove()
