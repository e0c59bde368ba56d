"""Measures the image engine against the plain pipeline and against batching whole requests.

A run reads top to bottom in `comparison`: the requests and when they come are in `requests`, who draws them in
`systems`, how they are sent in `loads`. `baseline` loads and unloads what it is compared with.
"""
