"""Measures the image engine against the plain pipeline and against batching whole requests; scripts/benchmark_images.

A run reads top to bottom in `comparison`: the requests and when they come are in `requests`, who draws them in
`systems`, how they are sent in `loads`, what is printed in `report`. `server` and `baseline` start and stop what is
measured.
"""
