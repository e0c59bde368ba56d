"""The tiny Stable Diffusion XL that draws simple scenes: its pictures and captions, its training, its examination.

A `scene` is drawn by `rendering` and put into words by `captions`; `autoencoder` and `denoiser` learn from both;
`reading` sees from a picture's pixels what was drawn, and `evaluation` asks whether that is what the words said.
"""
