"""Measures the models at their real sizes, with random weights, which are as fast as others: nothing is downloaded.

`python -m benchmark_gpu.images` has the options that `--help` lists, `python -m benchmark_gpu.text` those of
`./scripts/benchmark text`, too.
"""
