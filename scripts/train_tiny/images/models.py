"""The parts of the tiny Stable Diffusion XL before training, and its pipeline after."""

import copy
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tiny_models.sdxl_pipeline import PROMPT_TOKENS, build_pipeline

HOME_SIDE = 256  # pixels
_WIDTHS = (48, 80)  # of the two text encoders; side by side they are what the UNet attends to
_TIME_EMBEDDING = 16
_EMBEDDING_SPREAD = 0.3  # of new token embeddings: with CLIP's 0.02 the UNet would not hear the words for long


def build_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """The tokenizer of the tiny model with random weights, in which the words of these captions are whole."""
    return build_pipeline(captions, seed=0).tokenizer


def build_scheduler() -> EulerDiscreteScheduler:
    """The scheduler of the tiny model with random weights: Stable Diffusion XL's own."""
    return build_pipeline([], seed=0).scheduler


def build_autoencoder() -> AutoencoderKL:
    """Four resolutions, so that a latent is an eighth of the image's width and height."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 48, 48),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=HOME_SIDE,
        scaling_factor=1.0,
        force_upcast=True,
    )


def build_text_encoders(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Both text encoders, of which the UNet gets the last layer but one, and the second's pooled output."""
    first, second = (_text_config(width, tokenizer) for width in _WIDTHS)
    encoders = CLIPTextModel(first), CLIPTextModelWithProjection(second)
    for encoder in encoders:
        nn.init.normal_(encoder.get_input_embeddings().weight, std=_EMBEDDING_SPREAD)
    return encoders


def _text_config(width: int, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=_WIDTHS[1],
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        hidden_act="gelu" if width == _WIDTHS[1] else "quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def build_unet() -> UNet2DConditionModel:
    """Three resolutions, attention in the lower two, conditioned on size and pooled text, as Stable Diffusion XL's."""
    return UNet2DConditionModel(
        sample_size=HOME_SIDE // 8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 80, 96),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=(2, 2, 3),
        transformer_layers_per_block=1,
        use_linear_projection=True,
        cross_attention_dim=sum(_WIDTHS),
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME_EMBEDDING,
        projection_class_embeddings_input_dim=_WIDTHS[1] + 6 * _TIME_EMBEDDING,
    )


def build_trained_pipeline(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection],
    tokenizer: CLIPTokenizer,
) -> StableDiffusionXLPipeline:
    """The pipeline of trained parts, with Stable Diffusion XL's own noise schedule."""
    return StableDiffusionXLPipeline(
        vae=vae.eval(),
        text_encoder=text_encoders[0].eval(),
        text_encoder_2=text_encoders[1].eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet.eval(),
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def save_pipeline(pipeline: StableDiffusionXLPipeline, folder: Path) -> None:
    """Writes diffusers' layout with weights in half precision, which every loader turns into what it computes in."""
    halved = copy.deepcopy(pipeline).to(torch.float16)
    halved.save_pretrained(folder, safe_serialization=True)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes its files private to their owner
