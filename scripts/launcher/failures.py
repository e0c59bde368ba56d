"""Translates what Triton, vLLM, PyTorch and the Hugging Face hub write when a start fails into one line."""

import re
import signal
from collections.abc import Mapping
from typing import NamedTuple

from fictures.checkpoints import explanations


class ConfiguredModel(NamedTuple):
    """What a model of the repository is to load, and the setting that says so."""

    setting: str
    name: str


class Failure(NamedTuple):
    """A pattern of the log, and the line for people, with `{setting}`, `{model}` and the pattern's groups filled in."""

    pattern: str
    message: str


FAILURES = (
    Failure(
        r"you are not in the authorized list|awaiting a review from the repo authors",
        explanations.NO_ACCESS,
    ),
    Failure(
        r"GatedRepoError|gated repo|Access to model \S+ is restricted",
        explanations.GATED,
    ),
    Failure(
        r"RepositoryNotFoundError|is not a valid model identifier|Repository Not Found"
        r"|Invalid repository ID or local directory specified",
        explanations.NOT_FOUND,
    ),
    Failure(
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to '?\"?https?://\S+|Cannot reach https?://"
        r"|NameResolutionError|Temporary failure in name resolution",
        explanations.UNREACHABLE,
    ),
    Failure(
        r"Cannot find any model weights|does not appear to have a file named (?P<file>\S+)",
        "{setting}={model}: the model is incomplete (weights or configuration files are missing)",
    ),
    Failure(
        r"Model architectures? (?P<architecture>\[.*?\]) (?:are|is) not supported",
        "TEXT_MODEL_NAME={model}: this vLLM does not support the architecture {architecture}",
    ),
    Failure(
        r"Unknown quantization method: (?P<method>\S+)\. Must be one of \[(?P<known>[^\]]*)\]",
        "TEXT_QUANTIZATION={method}: vLLM knows no such method; there are {known}",
    ),
    Failure(
        r"Cannot find the config file for (?P<method>\w+)",
        "TEXT_QUANTIZATION={method}: {model} is not quantized by it: choose a model that is, or leave it unset",
    ),
    Failure(
        r"Quantization method specified in the model config \((?P<own>[^)]+)\) does not match the quantization method "
        r"specified in the `quantization` argument \((?P<method>[^)]+)\)",
        "TEXT_QUANTIZATION={method}: {model} is quantized by {own}: leave it unset",
    ),
    Failure(
        r"(?P<method>\w+) quantization is currently not supported in (?P<device>\w+)",
        "TEXT_QUANTIZATION={method}: vLLM does not support it on this machine ({device})",
    ),
    Failure(
        r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len"
        r" \([^)]*?(?P<most>\d+)",
        "TEXT_MAX_MODEL_LEN={asked} is more than {model} was made for: set it to {most} or less",
    ),
    Failure(
        r"Free memory on device.*is less than desired GPU memory utilization",
        "the GPU has less free memory than TEXT_GPU_MEMORY_UTILIZATION asks for: lower it, or stop its other users",
    ),
    Failure(
        r"No available memory for the cache blocks|larger than the (?:available|maximum).{0,40}KV cache"
        r"|KV cache is needed, which is larger",
        "not enough memory for the key-value cache: lower TEXT_MAX_MODEL_LEN, or raise VLLM_CPU_KVCACHE_SPACE (CPU) or "
        "TEXT_GPU_MEMORY_UTILIZATION (GPU)",
    ),
    Failure(
        r"CUDA out of memory|torch\.OutOfMemoryError|HIP out of memory",
        "out of GPU memory while loading {model}: use a smaller model, leave more to it (TEXT_GPU_MEMORY_UTILIZATION, "
        "IMAGE_GPU_MEMORY_UTILIZATION, TEXT_MAX_MODEL_LEN), or use more GPUs (VLLM_TENSOR_PARALLEL_SIZE)",
    ),
    Failure(
        r"DefaultCPUAllocator: (?:can't|not enough)|Cannot allocate memory|\bMemoryError\b|std::bad_alloc",
        "out of memory while loading {model}: use a smaller model, or lower VLLM_CPU_KVCACHE_SPACE",
    ),
    Failure(
        r"No space left on device",
        "no space left on the disk or in /dev/shm: free some (a container needs --shm-size=1g or more)",
    ),
    Failure(
        r"Socket '(?P<address>[^']+)' already in use|Address already in use",
        "a port was taken while the server started: run this again, or set other ports",
    ),
    Failure(
        r"unpack_from requires a buffer of at least|_ARRAY_API not found|compiled using NumPy 1\.x",
        "NumPy 2 is in .venv, the embedded Triton needs NumPy 1.26: delete .venv and run this again",
    ),
    Failure(
        r"libpython\S+: cannot open shared object file|undefined symbol: _?Py\w+",
        "Triton's Python backend did not find the shared library of this Python: set PYTHON to one that has it, "
        "delete .venv and run this again",
    ),
)

_QUOTES = ' "'
_TRACE = r"\n\nAt:"  # how Triton appends a Python traceback, escaped
_MODEL_FAILURE = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.+)")
_ERROR = re.compile(r'^E\d{4} .*?\] (?P<reason>(?!"CudaDriverHelper).+)', re.MULTILINE)


def explain(log: str, models: Mapping[str, ConfiguredModel], returncode: int | None = None) -> str:
    """One line that says why the start failed and what to do, out of the captured log.

    Args:
        log: What tritonserver and the models wrote.
        models: By Triton's names of them; where the log does not say which one failed, the first is meant.
        returncode: How tritonserver ended.
    """
    failed = _MODEL_FAILURE.search(log)
    model = models.get(failed["model"] if failed else "") or next(iter(models.values()))
    for failure in FAILURES:
        if found := re.search(failure.pattern, log):
            values = {name: value or "" for name, value in found.groupdict().items()}
            return failure.message.format_map({"setting": model.setting, "model": model.name} | values)
    if returncode == -signal.SIGKILL:
        return "tritonserver was killed, most likely because the machine ran out of memory: use a smaller model"
    if failed:
        reason = failed["reason"].split(_TRACE)[0]
        return f"{failed['model']} did not start: {reason.strip(_QUOTES)}"
    if errors := _ERROR.findall(log):
        return f"the server did not start: {errors[-1].strip(_QUOTES)}"
    return "tritonserver ended without saying why" + (f" (exit code {returncode})" if returncode else "")
