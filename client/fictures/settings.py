"""The settings of Fictures AI Server: one typed class, read from the environment and a `.env` file.

The environment wins over `.env`; an empty value means the default. `load_settings` is the way in: it
reports every wrong value and every misspelt name at once, as one `ConfigurationError`.
"""

from __future__ import annotations

import difflib
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream
from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fictures.errors import ConfigurationError

PREFIXES = ("TEXT_", "IMAGE_", "VLLM_", "DIFFUSERS_", "API_", "TRITON_", "LOG_", "MODEL_")
"""A name in `.env` that starts with one of these is ours, so an unknown one is an error."""

SIMILAR = 0.9
"""How alike (difflib ratio) an unknown name in the environment is to one of ours to count as misspelt."""

Port = Annotated[int, Field(ge=1, le=65535)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class Settings(BaseSettings):
    """Every setting. A field's variable is its name in capitals: `text_model_name` is `TEXT_MODEL_NAME`."""

    model_config = SettingsConfigDict(env_ignore_empty=True, env_file_encoding="utf-8", extra="ignore", frozen=True)

    text_model_name: str | None = Field(
        None, description="Text model: a Hugging Face name or a folder; unset: the tiny Gemma of the project."
    )
    text_revision: str | None = Field(
        None, description="Revision of the text model on the Hugging Face hub: branch, tag or commit."
    )
    text_dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] = Field(
        "auto",
        description="Number type of the text model's weights; auto: as the model's configuration says.",
    )
    text_max_model_len: int = Field(4096, ge=1, description="Longest prompt and answer together, in tokens.")
    text_quantization: str | None = Field(
        None, description="How the text model's weights are quantized, by vLLM's name; unset: as its files say."
    )
    text_load_format: Literal["safetensors", "dummy"] = Field(
        "safetensors",
        description="Where the text model's weights come from; dummy: random numbers, to measure without files.",
    )
    text_gpu_memory_utilization: Fraction = Field(
        0.5, description="Part of the GPU's memory for the text model and its key-value cache."
    )
    text_lora_modules: Annotated[dict[str, str], NoDecode] = Field(
        {}, description="LoRA adapters of the text model: a JSON object, name to path."
    )
    text_stream_interval_ms: int = Field(
        40,
        ge=0,
        le=1000,
        description="Longest time, in ms, that a stream's text waits for more when many streams run; 0: never.",
    )
    vllm_max_num_seqs: int = Field(256, ge=1, description="Most text requests in one engine step.")
    vllm_tensor_parallel_size: int = Field(1, ge=1, description="Number of GPUs the text model is split over.")
    vllm_pipeline_parallel_size: int = Field(
        1, ge=1, description="Number of stages the text model's layers are split into, each on GPUs of its own."
    )
    vllm_distributed_executor_backend: Literal["mp", "ray"] | None = Field(
        None,
        description="What runs a split model's parts: mp on one machine, ray on several; unset: vLLM decides.",
    )
    vllm_cpu_kvcache_space: int = Field(1, ge=1, description="Memory for the key-value cache on a CPU, in GiB.")

    image_model_name: str | None = Field(
        None,
        description="Image model: a Hugging Face name, a folder or a .safetensors file; unset: the tiny SDXL.",
    )
    image_revision: str | None = Field(
        None, description="Revision of the image model on the Hugging Face hub: branch, tag or commit."
    )
    image_gpu_memory_utilization: Fraction = Field(
        0.9, description="Part of the GPU's memory that the image model may use."
    )
    diffusers_enable_cpu_offload: bool = Field(
        False, description="Keep the image model's parts in main memory while they are idle."
    )
    diffusers_enable_attention_slicing: bool = Field(
        False, description="Compute the image model's attention in slices: less memory, slower."
    )
    diffusers_enable_vae_slicing: bool = Field(False, description="Decode one image of a batch at a time.")
    diffusers_enable_vae_tiling: bool = Field(
        False, description="Decode large images tile by tile: less memory, slower."
    )

    serve: Annotated[list[Literal["text", "images", "gateway"]], NoDecode] = Field(
        ["text", "images", "gateway"],
        description="What `./scripts/serve` starts, separated by commas: one Triton with these models, a gateway.",
    )

    api_host: str = Field("127.0.0.1", description="Address the gateway listens on; 0.0.0.0: every network.")
    api_port: Port = Field(9000, description="Port of the gateway.")
    cors_origins: Annotated[list[str], NoDecode] = Field(
        [],
        description="Web origins that may call the gateway from a browser, separated by commas; *: any.",
    )
    api_keys_file: Path | None = Field(
        None, description="File of API keys, see fictures keys; unset: the gateway asks for none."
    )
    api_allow_anonymous: bool = Field(
        False, description="Listen on other addresses than this machine's own although no keys are asked for."
    )
    api_max_concurrent: int | None = Field(
        None, ge=1, description="Most requests of one key at a time; unset: no limit. A key may have its own."
    )
    api_requests_per_minute: int | None = Field(
        None, ge=1, description="Most requests of one key within a minute; unset: no limit. A key may have its own."
    )
    api_max_body_bytes: int = Field(16 << 20, ge=1, description="Largest body of a request, in bytes.")
    api_request_timeout: float = Field(
        600, gt=0, description="Longest wait for an answer, or for the next piece of a stream, in seconds."
    )
    api_shutdown_timeout: float = Field(
        30, gt=0, description="How long a stopping gateway lets running requests go on, in seconds."
    )

    triton_url: str | None = Field(
        None,
        description="Triton's gRPC endpoint for gateway and client: host:port, or several address:port with commas; "
        "unset: 127.0.0.1 and TRITON_GRPC_PORT.",
    )
    triton_image_url: str | None = Field(
        None, description="The same for images, where they have a Triton of their own; unset: TRITON_URL."
    )
    triton_keepalive: float | None = Field(
        None,
        gt=0,
        description="Seconds after which the gateway tests a silent connection to Triton, and waits for the answer; "
        "unset: never. Triton has to allow it, as `./scripts/serve` makes it.",
    )
    triton_host: str = Field(
        "127.0.0.1",
        description="Address Triton listens on; 0.0.0.0: every network. It asks nobody for a key.",
    )
    triton_admin_key: SecretStr | None = Field(
        None,
        description="Key that Triton's shared-memory, logging and trace APIs ask for; set, no models are loaded or "
        "unloaded over the network. Unset: open on this machine's own addresses, closed on others.",
    )
    triton_http_port: Port = Field(8000, description="Port of Triton's HTTP endpoint.")
    triton_grpc_port: Port = Field(8001, description="Port of Triton's gRPC endpoint.")
    triton_metrics_port: Port = Field(8002, description="Port of Triton's Prometheus metrics.")
    triton_shutdown_timeout: int = Field(
        30, ge=0, description="How long a stopping Triton lets running requests go on, in seconds."
    )
    triton_max_connection_age: int | None = Field(
        None,
        ge=1,
        description="Seconds after which clients have to connect anew, and so find new replicas; unset: never.",
    )
    triton_home: Path | None = Field(
        None, description="Folder of an installed Triton, /opt/tritonserver in its images; unset: the embedded one."
    )

    cuda_visible_devices: str | None = Field(
        None, description="GPUs the server may use, for example 0,1; unset: all of them."
    )
    hf_token: SecretStr | None = Field(None, description="Hugging Face access token, for models that ask for one.")
    model_loading: Literal["eager", "lazy"] = Field(
        "eager",
        description="eager: load models at start; lazy: the server is up at once, a model loads at its first request.",
    )
    start_timeout: float = Field(600, gt=0, description="Longest wait for the server to become ready, in seconds.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe log line written."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines of the gateway for people or for machines."
    )

    @property
    def grpc_url(self) -> str:
        """host:port of Triton's gRPC endpoint: `TRITON_URL`, else loopback and `TRITON_GRPC_PORT`."""
        return self.triton_url or f"127.0.0.1:{self.triton_grpc_port}"

    @property
    def image_grpc_url(self) -> str:
        """The same for images: `TRITON_IMAGE_URL`, else that of the texts."""
        return self.triton_image_url or self.grpc_url

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("cors_origins", "serve", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("text_lora_modules", mode="before")
    @classmethod
    def _parse_json(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value


VARIABLES = tuple(name.upper() for name in Settings.model_fields)
"""The names of all settings as they are written in the environment."""


def load_settings(env_file: Path | None = None) -> Settings:
    """Read the settings from the environment and, where it exists, `env_file`.

    Raises:
        ConfigurationError: with one line for each wrong value, misspelt name or unreadable line.
    """
    lines = _parse_env_file(env_file) if env_file and env_file.exists() else []
    problems = [*_unknown_names(env_file, lines), *_misspelt(os.environ)]
    try:
        settings = Settings(_env_file=env_file)  # type: ignore[call-arg]  # takes it, declares it not
    except ValidationError as error:
        problems += [_value_problem(str(item["loc"][0]), item["input"]) for item in error.errors()]
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))
    return settings


def find_server(env_file: Path) -> str:
    """host:port of Triton's gRPC endpoint, for a program that needs no other setting.

    Reads `TRITON_URL` and `TRITON_GRPC_PORT` as `load_settings` does and lets everything else be, since
    `env_file` may be another project's.

    Raises:
        ConfigurationError: the port is wrong.
    """
    found = [*_readable_lines(env_file).items(), *os.environ.items()]
    values = {name.upper(): value for name, value in found if value}
    if url := values.get("TRITON_URL"):
        return url
    port = values.get("TRITON_GRPC_PORT", Settings.model_fields["triton_grpc_port"].default)
    try:
        return f"127.0.0.1:{TypeAdapter(Port).validate_python(port)}"
    except ValidationError:
        raise ConfigurationError([_value_problem("triton_grpc_port", port)]) from None


def allowed_values(field: FieldInfo) -> str:
    """Say in words what a field takes: `a whole number from 1 to 65535`."""
    types = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(str, types))
    if get_origin(field.annotation) is list and get_origin(types[0]) is Literal:
        return f"some of {', '.join(get_args(types[0]))}, separated by commas"
    if field.annotation is bool:
        return "true or false"
    if get_origin(field.annotation) is dict:
        return 'a JSON object of names and paths, for example {"poet": "/models/poet"}'
    if field.annotation in (int, float):
        return ("a whole number" if field.annotation is int else "a number") + _range(field.metadata)
    return "text"


def _range(limits: Iterable[object]) -> str:
    words = ""
    for limit in limits:
        if isinstance(limit, Ge):
            words += f" from {limit.ge}"
        elif isinstance(limit, Gt):
            words += f" above {limit.gt}"
        elif isinstance(limit, Le):
            words += f" to {limit.le}" if words.startswith(" from") else f", at most {limit.le}"
    return words


def _value_problem(name: str, value: object) -> str:
    return f"{name.upper()}={value}: must be {allowed_values(Settings.model_fields[name])}"


def _readable_lines(env_file: Path) -> dict[str, str | None]:
    try:
        text = env_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = parse_stream(io.StringIO(text))
    return dotenv_values(stream=io.StringIO("".join(line.original.string for line in lines if not line.error)))


def _parse_env_file(env_file: Path) -> list[Binding]:
    try:
        lines = list(parse_stream(io.StringIO(env_file.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{env_file}: cannot be read: {error}"]) from error
    unreadable = [line.original for line in lines if line.error]
    if unreadable:
        raise ConfigurationError(
            [f"{env_file}, line {line.line}: not NAME=value: {line.string.strip()}" for line in unreadable]
        )
    return lines


def _unknown_names(env_file: Path | None, lines: list[Binding]) -> list[str]:
    return [
        f"{env_file}, line {line.original.line}: {line.key} is not a setting; {_nearest(line.key)}"
        for line in lines
        if line.key and line.key.upper().startswith(PREFIXES) and line.key.upper() not in VARIABLES
    ]


def _nearest(name: str) -> str:
    matches = difflib.get_close_matches(name.upper(), VARIABLES, n=1, cutoff=0.6)
    return f"did you mean {matches[0]}?" if matches else "docs/configuration.md lists them all"


def _misspelt(environment: Mapping[str, str]) -> list[str]:
    """Names in the environment that are nearly ours.

    Other programs own names with our prefixes there (`VLLM_*`, `TRITON_CACHE_DIR`, `LOG_DIR`), so only
    near misses count, and of vLLM's own none.
    """
    return [
        f"{name} is not a setting; {_nearest(name)}"
        for name in environment
        if name.startswith(PREFIXES)
        and not name.startswith("VLLM_")
        and name not in VARIABLES
        and difflib.get_close_matches(name, VARIABLES, n=1, cutoff=SIMILAR)
    ]
