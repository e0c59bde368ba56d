"""The schedulers a request may name: diffusers' own, made from the model's noise schedule."""

from typing import Any

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from image_engine.errors import InvalidArgument

SCHEDULERS: dict[str, tuple[type, dict[str, Any]]] = {
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),  # which is for pixels, not for latents
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {}),
}
"""By name: the class, and what it has different from the model's own scheduler configuration."""


def make_scheduler(name: str, model_config: dict[str, Any], steps: int, device: Any) -> Any:
    """A scheduler of its own for one image, since it carries the state of the image's denoising.

    Args:
        name: A key of `SCHEDULERS`.
        model_config: The configuration of the scheduler that came with the model.
        steps: How many denoising steps it will do.
        device: Where the latents are.

    Raises:
        InvalidArgument: The scheduler cannot do that many steps.
    """
    kind, overrides = SCHEDULERS[name]
    scheduler = kind.from_config(model_config, **overrides)
    # A distilled model has so many steps to choose from. Other schedulers carry the number along and ignore it.
    most = scheduler.config.original_inference_steps if kind is LCMScheduler else steps
    if steps > most:
        raise InvalidArgument.of("num_inference_steps", steps, f"scheduler {name} takes {most} at most")
    scheduler.set_timesteps(steps, device=device)
    if hasattr(scheduler, "set_begin_index"):  # DDIM has no such state
        scheduler.set_begin_index(0)
    return scheduler
