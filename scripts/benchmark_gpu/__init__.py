"""Measures the models at their real sizes, with random weights, which are as fast as others: nothing is downloaded.

`python -m benchmark_gpu.images` and `python -m benchmark_gpu.text`, each with the options that `--help` lists.
"""
