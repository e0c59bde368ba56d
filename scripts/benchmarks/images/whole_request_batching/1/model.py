"""The plain pipeline behind Triton's dynamic batching: a batch is drawn from start to end before the next is taken.

A call of the pipeline has one step count, so a batch takes a call for each step count in it. The fewest steps go
first and every call is answered when it is done, so that short requests do not also wait for the long ones.
"""

import locale
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_ALIKE = ("num_inference_steps", "width", "height", "guidance_scale")  # within one call


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # The stub starts Python without a locale, and torch reads its own sources with the locale's encoding.
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        import plain_pipeline

        self._draw = plain_pipeline.draw
        self._pipeline = plain_pipeline.load(Path(args["model_repository"]).parent / "sdxl_stream" / "1")

    def execute(self, requests: list[Any]) -> None:
        groups = defaultdict(list)
        for request in requests:
            groups[tuple(_value(request, name) for name in _ALIKE)].append(request)
        for alike, group in sorted(groups.items(), key=lambda item: item[0]):
            try:
                answers = self._answers(group, *alike)
            except Exception as error:
                answers = [pb_utils.InferenceResponse(error=pb_utils.TritonError(repr(error)))] * len(group)
            for request, answer in zip(group, answers, strict=True):
                request.get_response_sender().send(answer, flags=_FINAL)

    def _answers(self, group: list[Any], steps: int, width: int, height: int, guidance_scale: float) -> list[Any]:
        files = self._draw(
            self._pipeline,
            [_value(request, "prompt").decode() for request in group],
            [_value(request, "seed") for request in group],
            width=width,
            height=height,
            steps=steps,
            guidance_scale=guidance_scale,
        )
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("image", np.array([[file]], dtype=np.object_))])
            for file in files
        ]


def _value(request: Any, name: str) -> Any:
    element = pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0]
    return element if isinstance(element, bytes) else element.item()
