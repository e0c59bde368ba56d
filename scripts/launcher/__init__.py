"""The launcher behind scripts/serve: starts the embedded Triton, keeps it serving, and stops it cleanly.

A start reads top to bottom: `preflight` (can it work here?), `models` (which, and where), `triton`
(binaries and command line), `repository` (settings laid over the models), `processes` (start),
`readiness` (wait), `supervisor` (keep alive, stop). `environment.sh` made the environment all this runs in.
"""
