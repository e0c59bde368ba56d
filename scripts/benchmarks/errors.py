"""What can go wrong in a benchmark.

Exception
├── BenchmarkError         it cannot be run; the message says why
│   ├── UnreadableProfile  perf_analyzer did not finish its file; another try may do
│   └── TooFewAnswers      a load was too short for this server
└── DrawingFailed          one request was answered with an error, or not in time
"""


class BenchmarkError(Exception):
    pass


class UnreadableProfile(BenchmarkError):
    pass


class TooFewAnswers(BenchmarkError):
    pass


class DrawingFailed(Exception):
    pass
