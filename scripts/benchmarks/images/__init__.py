"""Measures every way to an image beside the plain pipeline, and `sdxl` beside batching whole requests.

A run reads top to bottom in `comparison`: the requests and when they come are in `requests`, what draws them in
`systems` (the server's ways in are `endpoints`, what needs no server is `in_process`), how they are sent in `loads`,
and by perf_analyzer in `under_perf_analyzer`.
"""
