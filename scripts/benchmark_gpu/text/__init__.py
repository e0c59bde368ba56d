"""The text benchmark with Gemma at its real sizes: what each size is, in `sizes`, and the command, in `command`.

Weights are random numbers that vLLM makes (`TEXT_LOAD_FORMAT=dummy`), so nothing is fetched, and a GPU computes as much
for a token as with Gemma's own. Everything that is measured, and how, is `benchmarks.text`.
"""
