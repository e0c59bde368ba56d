"""Measures the text path beside `vllm serve` and the bare engine, with the same model and the same settings.

A run reads top to bottom in `comparison`: who is measured is in `contenders`, which real tools make the load in
`tools`, what it costs the processes in `usage`, what is printed in `tables`.
"""
