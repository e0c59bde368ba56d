"""Draws images with Stable Diffusion XL, batched by denoising step, over the parts of diffusers' pipeline.

A request's way: `request` checks it, `engine` takes it in, `batching` says which images make the next step, `prompts`
and `denoising` do the work of a step, `decoding` and `encoding` make files of the latents, `responses` sends them.
"""
