"""Triton's lifecycle of a text model served by vLLM: load, execute, unload.

Triton imports this file twice, once only to complete the model's configuration, so whatever is heavy is
imported in `initialize`.
"""

import json
import locale
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from text_backend import contract

_EXIT_TIMEOUT = 10  # seconds


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        return contract.complete(auto_complete_model_config)

    def initialize(self, args: dict[str, str]) -> None:
        # The stub starts Python without a locale, and torch reads its own sources with the locale's encoding.
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        from text_backend import lifeline

        lifeline.follow_parent()
        lifeline.bind_forks()

        from text_backend.config import ModelSetup
        from text_backend.engine import TextEngine
        from text_backend.metrics import MetricsMirror

        setup = ModelSetup.load(args, Path(pb_utils.get_model_dir()))
        self._engine = TextEngine(setup, pb_utils.Logger)
        self._engine.start()
        self._metrics = MetricsMirror(setup.metric_labels, pb_utils.Logger) if setup.report_metrics else None

    def execute(self, requests: list[Any]) -> None:
        from text_backend.errors import InternalError, TextError
        from text_backend.origin import readable_id
        from text_backend.request import TextRequest, is_set
        from text_backend.responses import ResponseStream

        for request in requests:
            stream = ResponseStream(request.get_response_sender(), request.requested_output_names())
            try:
                parameters = json.loads(request.parameters() or "{}")
                if is_set(parameters, contract.HEALTH_CHECK_PARAMETER):
                    self._engine.check()
                    stream.send_empty()
                else:
                    self._engine.submit(TextRequest.parse(request, parameters, self._engine.limits), stream)
            except TextError as error:
                stream.fail(error)
            except Exception as error:
                pb_utils.Logger.log_error(f"[text] request {readable_id(request)} could not be read: {error!r}")
                stream.fail(InternalError(f"the request could not be read: {error!r}"))

    def is_ready(self) -> bool:
        """Asked by Triton versions that let a Python model speak for its own readiness."""
        return self._engine.is_ready

    def finalize(self) -> None:
        if self._metrics is not None:
            self._metrics.stop()
        self._engine.stop()
        from text_backend import lifeline

        lifeline.end_within(_EXIT_TIMEOUT)
