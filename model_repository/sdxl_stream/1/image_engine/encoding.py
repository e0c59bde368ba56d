"""Image files: PNG, JPEG or WebP, as bytes or as base64 text."""

import base64
import io
import json

from PIL import Image, PngImagePlugin

from image_engine.request import ImageRequest

_QUALITY = 92  # of JPEG and WebP, from 0 to 100
_PREVIEW_QUALITY = 80
_PNG_COMPRESSION = 1  # of 9: a quarter of the default's time, for files a few per cent larger


def encode_image(image: Image.Image, request: ImageRequest, seed: int) -> bytes:
    """The file of one image; a PNG carries what made it as JSON in its text entry `parameters`."""
    buffer = io.BytesIO()
    if request.output_format == "png":
        image.save(buffer, "PNG", pnginfo=_metadata(request, seed), compress_level=_PNG_COMPRESSION)
    else:
        image.save(buffer, request.output_format.upper(), quality=_QUALITY)
    return _text(buffer, request)


def encode_preview(image: Image.Image, request: ImageRequest) -> bytes:
    """A small JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_PREVIEW_QUALITY)
    return _text(buffer, request)


def _text(buffer: io.BytesIO, request: ImageRequest) -> bytes:
    return base64.b64encode(buffer.getvalue()) if request.base64 else buffer.getvalue()


def _metadata(request: ImageRequest, seed: int) -> PngImagePlugin.PngInfo:
    said = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "seed": seed,
        "scheduler": request.scheduler,
    }
    info = PngImagePlugin.PngInfo()
    info.add_itxt("parameters", json.dumps(said, ensure_ascii=False))
    return info
