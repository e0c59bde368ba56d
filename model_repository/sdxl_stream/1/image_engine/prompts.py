"""Prompt embeddings, kept for the prompts that come again."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from diffusers import StableDiffusionXLPipeline


@dataclass(frozen=True)
class Conditioning:
    """What the UNet is told of one text: [1, 77, width] token embeddings and [1, width] pooled ones."""

    tokens: torch.Tensor
    pooled: torch.Tensor


@dataclass(frozen=True)
class PromptEmbeddings:
    """`negative` is None where there is no guidance: its half of the UNet's work is not done then."""

    positive: Conditioning
    negative: Conditioning | None


class PromptEncoder:
    """Runs both text encoders through the pipeline's own code; the `capacity` prompts used last are kept."""

    def __init__(self, pipeline: StableDiffusionXLPipeline, capacity: int = 128) -> None:
        self._pipeline = pipeline
        self._capacity = capacity
        self._kept: OrderedDict[tuple[str, str | None, bool], PromptEmbeddings] = OrderedDict()

    @torch.inference_mode()
    def encode(self, prompt: str, negative_prompt: str | None, *, guided: bool) -> PromptEmbeddings:
        """The embeddings of a prompt; tokens beyond the encoders' 77 are cut off, as the pipeline does.

        Args:
            prompt: What is to be seen.
            negative_prompt: What is not to be seen; None: nothing in particular, which for Stable Diffusion XL is
                not the same as the empty text.
            guided: Whether guidance will be used.
        """
        key = (prompt, negative_prompt if guided else None, guided)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        tokens, negative_tokens, pooled, negative_pooled = self._pipeline.encode_prompt(
            prompt=prompt, negative_prompt=negative_prompt, do_classifier_free_guidance=guided
        )
        negative = Conditioning(negative_tokens, negative_pooled) if guided else None
        embeddings = PromptEmbeddings(Conditioning(tokens, pooled), negative)
        self._kept[key] = embeddings
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return embeddings
