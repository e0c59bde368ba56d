"""What vLLM, PyTorch, the Hugging Face hub and Triton write becomes one line that says what to do."""

import signal

import pytest

from launcher.failures import ConfiguredModel, explain

MODELS = {
    "gemma": ConfiguredModel("TEXT_MODEL_NAME", "google/gemma-2b-it"),
    "sdxl_stream": ConfiguredModel("IMAGE_MODEL_NAME", "owner/sdxl"),
}

LOGS = {
    "gated": (
        "OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://hub/google/gemma-2b-it",
        ["huggingface.co/google/gemma-2b-it", "accept its licence", "HF_TOKEN"],
    ),
    "gated, not granted": (
        "Access to model google/gemma-2b-it is restricted and you are not in the authorized list. Visit its page",
        ["huggingface.co/google/gemma-2b-it", "no access", "HF_TOKEN"],
    ),
    "no such quantization": (
        "Value error, Unknown quantization method: int3. Must be one of ['awq', 'fp8'].",
        ["TEXT_QUANTIZATION=int3", "'awq', 'fp8'"],
    ),
    "not quantized by it": (
        "Value error, Cannot find the config file for gptq [type=value_error, input_value=ArgsKwargs(()",
        ["TEXT_QUANTIZATION=gptq", "google/gemma-2b-it is not quantized by it"],
    ),
    "quantized by another": (
        "Value error, Quantization method specified in the model config (gptq) does not match the quantization method "
        "specified in the `quantization` argument (fp8).",
        ["TEXT_QUANTIZATION=fp8", "google/gemma-2b-it is quantized by gptq"],
    ),
    "quantization of other machines": (
        "Value error, awq_marlin quantization is currently not supported in cpu.",
        ["TEXT_QUANTIZATION=awq_marlin", "(cpu)"],
    ),
    "unknown name": (
        "OSError: google/gemma-2b-it is not a local folder and is not a valid model identifier listed on",
        ["TEXT_MODEL_NAME=google/gemma-2b-it", "no such model"],
    ),
    "offline": (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder",
        ["cannot be reached", "HF_HUB_OFFLINE"],
    ),
    "too long": (
        "Value error, User-specified max_model_len (8192) is greater than the derived max_model_len"
        " (max_position_embeddings=4096 or model_max_length=None in model's config.json)",
        ["TEXT_MAX_MODEL_LEN=8192", "4096 or less"],
    ),
    "no architecture": (
        "Value error, Model architectures ['OtherForCausalLM'] are not supported for now.",
        ["['OtherForCausalLM']", "does not support"],
    ),
    "GPU memory": ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", ["out of GPU memory"]),
    "memory": (
        "RuntimeError: [enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
        ["out of memory", "VLLM_CPU_KVCACHE_SPACE"],
    ),
    "key-value cache": (
        "ValueError: To serve at least one request with the models's max seq len (4096), 4.00 GiB KV cache is needed,"
        " which is larger than the available KV cache memory (1.00 GiB).",
        ["key-value cache", "TEXT_MAX_MODEL_LEN"],
    ),
    "shared memory": ("boost::interprocess: No space left on device", ["/dev/shm"]),
    "libpython": (
        "error while loading shared libraries: libpython3.11.so.1.0: cannot open shared object file",
        ["shared library", "PYTHON"],
    ),
    "NumPy 2": ("struct.error: unpack_from requires a buffer of at least 84215049 bytes", ["NumPy 1.26"]),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_known_failure_is_explained(name: str) -> None:
    log, words = LOGS[name]
    line = explain(f"I0101 server.cc:1] starting\n{log}\nE0101 more noise", MODELS)
    assert "\n" not in line
    assert [word for word in words if word not in line] == []


def test_an_unknown_failure_is_quoted() -> None:
    log = "E0101 12:00:00 1 model_lifecycle.cc:642] \"failed to load 'gemma' version 1: Internal: KeyError: 'x'\"\n"
    assert explain(log, MODELS) == "gemma did not start: Internal: KeyError: 'x'"


def test_the_model_that_failed_is_the_one_that_is_named() -> None:
    log = (
        "OSError: owner/sdxl is not a local folder and is not a valid model identifier listed on\n"
        "E0101 12:00:00 1 model_lifecycle.cc:642] \"failed to load 'sdxl_stream' version 1: Internal: SetupError\"\n"
    )
    assert explain(log, MODELS).startswith("IMAGE_MODEL_NAME=owner/sdxl: no such model")


def test_a_traceback_is_left_to_the_log() -> None:
    log = (
        "E0101 12:00:00 1 model_lifecycle.cc:642] \"failed to load 'sdxl_stream' version 1: Internal: SetupError: "
        'no UNet\\n\\nAt:\\n  /some/file.py(34): load\\n"\n'
    )
    assert explain(log, MODELS) == "sdxl_stream did not start: Internal: SetupError: no UNet"


def test_a_server_that_the_kernel_killed_points_at_memory() -> None:
    assert "out of memory" in explain("", MODELS, -signal.SIGKILL)


def test_silence_is_named() -> None:
    assert explain("", MODELS, 1) == "tritonserver ended without saying why (exit code 1)"
