"""The tensors of a text model, in the order of the API reference.

The first group is the contract of NVIDIA's vLLM backend; `messages` and `chat_template_kwargs` are ours.
"""

from typing import Any


def _input(name: str, data_type: str, dims: int = 1, *, optional: bool = True) -> dict[str, Any]:
    tensor: dict[str, Any] = {"name": name, "data_type": data_type, "dims": [dims]}
    return tensor | {"optional": True} if optional else tensor


# The flag that asks for an additional output, and that output's name.
ADDITIONAL_OUTPUTS = {
    "return_finish_reason": "finish_reason",
    "return_cumulative_logprob": "cumulative_logprob",
    "return_logprobs": "logprobs",
    "return_num_input_tokens": "num_input_tokens",
    "return_num_output_tokens": "num_output_tokens",
}

INPUTS = [
    _input("text_input", "TYPE_STRING", optional=False),
    _input("image", "TYPE_STRING", -1),
    _input("stream", "TYPE_BOOL"),
    _input("sampling_parameters", "TYPE_STRING"),
    _input("exclude_input_in_output", "TYPE_BOOL"),
    *(_input(flag, "TYPE_BOOL") for flag in ADDITIONAL_OUTPUTS),
    _input("messages", "TYPE_STRING"),
    _input("chat_template_kwargs", "TYPE_STRING"),
]

OUTPUTS = [
    {"name": "text_output", "data_type": "TYPE_STRING", "dims": [-1]},
    {"name": "finish_reason", "data_type": "TYPE_STRING", "dims": [-1]},
    {"name": "cumulative_logprob", "data_type": "TYPE_FP32", "dims": [-1]},
    {"name": "logprobs", "data_type": "TYPE_STRING", "dims": [-1]},
    {"name": "num_input_tokens", "data_type": "TYPE_UINT32", "dims": [1]},
    {"name": "num_output_tokens", "data_type": "TYPE_UINT32", "dims": [-1]},
]

# A request parameter (not a tensor): answered at once, without generating, by a model that can take requests.
HEALTH_CHECK_PARAMETER = "health_check"
# A request parameter: a stream's responses hold `finish_reason` only when a text has ended, and `num_input_tokens` only
# the first time. Every output makes every response dearer: here, in tritonserver and for its reader.
OMIT_UNCHANGED_PARAMETER = "omit_unchanged_outputs"


def complete(config: Any) -> Any:
    """Adds the contract to a `ModelConfig` under auto-completion; what the user declared stays."""
    declared = config.as_dict()
    inputs = {tensor["name"] for tensor in declared["input"]}
    outputs = {tensor["name"] for tensor in declared["output"]}
    for tensor in INPUTS:
        if tensor["name"] not in inputs:
            config.add_input(tensor)
    for tensor in OUTPUTS:
        if tensor["name"] not in outputs:
            config.add_output(tensor)
    config.set_model_transaction_policy({"decoupled": True})
    config.set_max_batch_size(0)
    return config
