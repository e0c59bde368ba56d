"""What can go wrong in a benchmark.

Exception
├── BenchmarkError   it cannot be run; the message says why
└── DrawingFailed    one request was answered with an error, or not in time
"""


class BenchmarkError(Exception):
    pass


class DrawingFailed(Exception):
    pass
