"""What the vLLM backend for Triton is made of.

A request travels: `request` (tensors to one frozen `TextRequest`, with `sampling` for its parameters) →
`engine` (vLLM, its event loop, its restarts) → `responses` (one writer a stream, one final response).
`contract` lists the tensors, `metrics` mirrors vLLM's metrics, `lifeline` ties processes together.
"""
