"""A whole `StableDiffusionXLPipeline` of Stable Diffusion XL's architecture, small enough for a laptop's CPU."""

import json
from collections.abc import Iterable

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
_WIDTHS = (32, 48)  # of the two text encoders; side by side they are what the UNet attends to
_TIME_EMBEDDING = 16
_VOCABULARY = 1024  # before the bytes that no sentence has


def build_pipeline(sentences: Iterable[str], seed: int) -> StableDiffusionXLPipeline:
    """The pipeline with random weights, reproducible from `seed`; its tokenizers learn their words from `sentences`."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(sentences)
    first, second = (_text_config(width, len(tokenizer), tokenizer.eos_token_id) for width in _WIDTHS)
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(first).eval(),
        text_encoder_2=CLIPTextModelWithProjection(second).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=_unet(),
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


def _text_config(width: int, vocabulary: int, end: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=_WIDTHS[1],
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        hidden_act="gelu" if width == _WIDTHS[1] else "quick_gelu",
        bos_token_id=0,
        eos_token_id=end,
        pad_token_id=end,
    )


def _unet() -> UNet2DConditionModel:
    """Three resolutions, attention in the lower two, conditioned on size and pooled text, as Stable Diffusion XL's."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16, 32),
        layers_per_block=2,
        norm_num_groups=4,
        attention_head_dim=(1, 2, 4),
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        cross_attention_dim=sum(_WIDTHS),
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME_EMBEDDING,
        projection_class_embeddings_input_dim=_WIDTHS[1] + 6 * _TIME_EMBEDDING,
    ).eval()


def _vae() -> AutoencoderKL:
    """Four resolutions, so that a latent is an eighth of the image's width and height."""
    blocks = 4
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=256,
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
