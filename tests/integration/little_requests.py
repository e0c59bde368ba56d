"""For schemathesis (SCHEMATHESIS_HOOKS): what a made-up request costs is no property of the gateway, so it is made
to cost little; what is wrong about it stays as it is.
"""

from typing import Any

import schemathesis

LITTLE = {
    "/api/v1/text": {"max_tokens": 8},
    "/v1/completions": {"max_tokens": 8, "n": 2},
    "/v1/chat": {"max_tokens": 8, "max_completion_tokens": 8, "n": 2},
    "/api/v1/images": {"width": 256, "height": 256, "num_inference_steps": 2},
    "/v1/images": {"size": "256x256", "num_inference_steps": 2, "n": 2},
}


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    if not isinstance(case.body, dict):
        return
    for name, most in next((little for start, little in LITTLE.items() if case.path.startswith(start)), {}).items():
        value = case.body.get(name)
        if name not in case.body or (type(value) is type(most) is int and value > most):
            case.body[name] = most
