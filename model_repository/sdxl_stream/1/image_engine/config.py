"""What a model's folder says about how it is served: `1/model.json` and `config.pbtxt`."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from image_engine.errors import InvalidArgument, SetupError
from image_engine.parameters import BY_NAME

if TYPE_CHECKING:
    import torch

DEFAULTABLE = (
    "negative_prompt",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "scheduler",
    "output_format",
)
"""The request parameters for which a model may have a default of its own."""


class ModelSettings(BaseModel):
    """The content of `model.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str = Field(min_length=1)
    """A folder in diffusers' layout, a name on the Hugging Face hub, or one `.safetensors` file of a whole model."""
    revision: str | None = None
    variant: str | None = None
    """The files to prefer where there are such, except in float32: `fp16` takes `….fp16.safetensors`."""
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    """auto: float16 on a GPU, float32 on a CPU."""
    unet: str | None = None
    """A `.safetensors` file of UNet weights to use in place of the model's own, as for SDXL-Lightning: a path, or
    `owner/name/file` on the hub."""
    vae: str | None = None
    """A VAE to use in place of the model's own: a folder or a name on the hub."""
    scheduler_config: dict[str, Any] = {}
    """Changes to the noise schedule that came with the model, such as `{"timestep_spacing": "trailing"}`."""
    defaults: dict[str, Any] = {}
    """Request parameters where they are not given, such as `{"num_inference_steps": 4, "guidance_scale": 0}`."""
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    """Part of the GPU's memory that the model and its work may use."""
    working_memory: int | None = Field(None, ge=1)
    """Bytes for a denoising step and a decoding together; null: what `gpu_memory_utilization` leaves on a GPU, a
    quarter of the memory that is free at the start on a CPU."""
    max_batch_size: int = Field(8, ge=1)
    """Most images in one denoising step."""
    max_queue_size: int = Field(64, ge=1)
    """Most requests that wait; beyond it they are refused as UNAVAILABLE."""
    cuda_graphs: bool = True
    """On a GPU: make steps of a kind that comes again by CUDA graphs; not with CPU offload."""
    compile: Literal["auto", "off", "blocks", "model"] = "auto"
    """What torch.compile makes faster; pictures then differ from the plain pipeline's in rounding. blocks: the UNet's
    transformer blocks, for all sizes, which takes half a minute at the first start. model: the whole UNet, and on a GPU
    the VAE's decoder, for images of the default size, which takes minutes. auto: blocks on a GPU if they can be
    compiled, off on a CPU. Nothing with CPU offload."""
    enable_cpu_offload: bool = False
    enable_attention_slicing: bool = False
    enable_vae_slicing: bool = False
    enable_vae_tiling: bool = False

    @field_validator("defaults")
    @classmethod
    def _are_allowed(cls, defaults: dict[str, Any]) -> dict[str, Any]:
        for name, value in defaults.items():
            if name not in DEFAULTABLE:
                raise ValueError(f"{name} has no default of a model; there are {', '.join(DEFAULTABLE)}")
            try:
                BY_NAME[name].check_untyped(value)
            except InvalidArgument as error:
                raise ValueError(str(error)) from None
        return defaults

    @model_validator(mode="after")
    def _can_be_compiled(self) -> Self:
        if self.compile in ("blocks", "model") and self.enable_attention_slicing:
            raise ValueError(f"compile: {self.compile} and enable_attention_slicing exclude each other")
        return self


def is_offloaded(settings: ModelSettings, device: "torch.device") -> bool:
    """Whether the model's parts take turns on a GPU."""
    return settings.enable_cpu_offload and device.type == "cuda"


def compiled_part(settings: ModelSettings, device: "torch.device") -> Literal["off", "blocks", "model"]:
    """What of the model is to be compiled on a device."""
    if is_offloaded(settings, device):
        return "off"
    if settings.compile != "auto":
        return settings.compile
    return "blocks" if device.type == "cuda" and not settings.enable_attention_slicing else "off"


@dataclass(frozen=True)
class ModelSetup:
    """One model instance: its settings, labels for metrics, and whether it is loaded at its first request."""

    settings: ModelSettings
    metric_labels: dict[str, str]
    lazy: bool

    @classmethod
    def load(cls, args: dict[str, str], version_dir: Path) -> "ModelSetup":
        """Reads the folder; `args` are those that Triton gives `initialize`.

        Raises:
            SetupError: `model.json` is missing or not what it should be.
        """
        path = version_dir / "model.json"
        try:
            settings = ModelSettings.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise SetupError(f"{path} is missing: it names the model to serve") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "content"
            raise SetupError(f"{path}: {where}: {first['msg']}") from None
        parameters = json.loads(args["model_config"]).get("parameters", {})
        loading = parameters.get("MODEL_LOADING", {}).get("string_value", "eager")
        labels = {
            "model": args["model_name"],
            "version": args["model_version"],
            "instance": args["model_instance_name"],
            # While a model is reloaded two processes report for the same instance. Triton 2.51 would give both the same
            # metric and free it with the first of them: the server crashes.
            "pid": str(os.getpid()),
        }
        return cls(settings, labels, lazy=loading == "lazy")
