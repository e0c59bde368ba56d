"""A whole `StableDiffusionXLPipeline` of Stable Diffusion XL's architecture, small enough for a laptop's CPU or as
large as the real one.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

PROMPT_TOKENS = 77
_VOCABULARY = 1024  # before the bytes that no sentence has


@dataclass(frozen=True)
class TextSize:
    """Of a text encoder."""

    width: int
    layers: int
    heads: int
    activation: str
    vocabulary: int | None
    """None: as many as the tokenizer knows."""


@dataclass(frozen=True)
class Size:
    """Of a pipeline: everything in which a small one differs from a large one."""

    text: tuple[TextSize, TextSize]
    """Side by side they are what the UNet attends to."""
    sample: int
    """Latents a side."""
    channels: tuple[int, int, int]
    heads: tuple[int, int, int]
    transformers: tuple[int, int, int]
    norm_groups: int
    time_embedding: int
    vae_channels: tuple[int, int, int, int]
    vae_layers: int
    vae_norm_groups: int


TINY = Size(
    text=(TextSize(32, 3, 4, "quick_gelu", None), TextSize(48, 3, 4, "gelu", None)),
    sample=32,
    channels=(8, 16, 32),
    heads=(1, 2, 4),
    transformers=(1, 1, 2),
    norm_groups=4,
    time_embedding=16,
    vae_channels=(8, 16, 16, 16),
    vae_layers=1,
    vae_norm_groups=8,
)
BASE = Size(
    text=(TextSize(768, 12, 12, "quick_gelu", 49408), TextSize(1280, 32, 20, "gelu", 49408)),
    sample=128,
    channels=(320, 640, 1280),
    heads=(5, 10, 20),
    transformers=(1, 2, 10),
    norm_groups=32,
    time_embedding=256,
    vae_channels=(128, 256, 512, 512),
    vae_layers=2,
    vae_norm_groups=32,
)
"""Stable Diffusion XL base 1.0: 2.6 billion weights in the UNet, 0.8 in the text encoders."""


def build_pipeline(sentences: Iterable[str], seed: int, size: Size = TINY) -> StableDiffusionXLPipeline:
    """The pipeline with random weights, reproducible from `seed`; its tokenizers learn their words from `sentences`."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(sentences)
    first, second = (_text_config(text, size.text[1].width, tokenizer) for text in size.text)
    return StableDiffusionXLPipeline(
        vae=build_vae(size),
        text_encoder=CLIPTextModel(first).eval(),
        text_encoder_2=CLIPTextModelWithProjection(second).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=build_unet(size),
        scheduler=_scheduler(),
        add_watermarker=False,
    )


def _tokenizer(sentences: Iterable[str]) -> CLIPTokenizer:
    """CLIP's kind: every byte, alone and at a word's end, and above them the pieces that `sentences` are made of."""
    start, end, word_end = "<|startoftext|>", "<|endoftext|>", "</w>"
    blank = CLIPTokenizer(vocab={start: 0, end: 1}, merges=[])
    trained = blank.train_new_from_iterator(sentences, _VOCABULARY, end_of_word_suffix=word_end)
    merges = [tuple(pair) for pair in json.loads(trained.backend_tokenizer.to_str())["model"]["merges"]]
    alphabet = sorted(ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + word_end for letter in alphabet), *(left + right for left, right in merges)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([start, end, *pieces]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=PROMPT_TOKENS)


def _text_config(text: TextSize, projection: int, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=text.vocabulary or len(tokenizer),
        hidden_size=text.width,
        intermediate_size=4 * text.width,
        projection_dim=projection,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        max_position_embeddings=PROMPT_TOKENS,
        hidden_act=text.activation,
        bos_token_id=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )


def build_unet(size: Size) -> UNet2DConditionModel:
    """Three resolutions, attention in the lower two, conditioned on size and pooled text, as Stable Diffusion XL's."""
    return UNet2DConditionModel(
        sample_size=size.sample,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=size.channels,
        layers_per_block=2,
        norm_num_groups=size.norm_groups,
        attention_head_dim=size.heads,
        transformer_layers_per_block=size.transformers,
        use_linear_projection=True,
        cross_attention_dim=sum(text.width for text in size.text),
        addition_embed_type="text_time",
        addition_time_embed_dim=size.time_embedding,
        projection_class_embeddings_input_dim=size.text[1].width + 6 * size.time_embedding,
    ).eval()


def build_vae(size: Size) -> AutoencoderKL:
    """Four resolutions, so that a latent is an eighth of the image's width and height."""
    blocks = len(size.vae_channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=size.vae_channels,
        layers_per_block=size.vae_layers,
        norm_num_groups=size.vae_norm_groups,
        latent_channels=4,
        sample_size=8 * size.sample,
        scaling_factor=0.13025,
        force_upcast=True,
    ).eval()


def _scheduler() -> EulerDiscreteScheduler:
    """With Stable Diffusion XL's own configuration, which also says what other schedulers made from it need."""
    return EulerDiscreteScheduler.from_config(
        {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "prediction_type": "epsilon",
            "timestep_spacing": "leading",
            "steps_offset": 1,
            "use_karras_sigmas": False,
            "clip_sample": False,
            "set_alpha_to_one": False,
        }
    )
