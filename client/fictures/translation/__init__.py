"""Translation between web APIs and Triton: pure functions, without a connection.

`fictures_api` and `openai_*` hold an API each: its requests (parsed and checked there, once) become a `TextCall` or an
`ImageCall` of `calls`, which writes the Triton request; Triton's responses, read by `answers`, become the API's
answers. `kserve` writes a Triton request as JSON. The gateway and `scripts/translate` are built on these.
"""
