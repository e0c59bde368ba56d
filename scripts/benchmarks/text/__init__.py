"""Measures the text path beside `vllm serve` and the engine without a server, with the same model and settings.

A run reads top to bottom in `comparison`: who is measured is in `contenders`, which real tools make the load in
`tools`, and `in_process` where none can; what it costs the processes is in `usage`, what the servers count themselves
in `counters`, what is printed in `tables`.
"""
