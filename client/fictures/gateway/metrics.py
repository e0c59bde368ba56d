"""The gateway's metrics, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fictures.translation.answers import TextAnswer

_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters and histograms of one gateway."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "fictures_gateway_requests", "Requests by endpoint and status.", ["endpoint", "status"], registry=registry
        )
        self._running = Gauge("fictures_gateway_requests_running", "Requests under way.", registry=registry)
        self._stream_errors = Counter(
            "fictures_gateway_stream_errors", "Streams that ended with an error.", ["status"], registry=registry
        )
        self._seconds = Histogram(
            "fictures_gateway_request_seconds",
            "From a request to the end of its answer.",
            ["endpoint"],
            buckets=_LONG,
            registry=registry,
        )
        self._first_token = Histogram(
            "fictures_gateway_time_to_first_token_seconds",
            "From a call of Triton to the first text of its stream.",
            buckets=_LONG,
            registry=registry,
        )
        self._between_tokens = Histogram(
            "fictures_gateway_inter_token_latency_seconds",
            "Between pieces of a stream, for each token of the later one.",
            buckets=_SHORT,
            registry=registry,
        )
        self._prompt_tokens = Counter("fictures_gateway_prompt_tokens", "Tokens of prompts.", registry=registry)
        self._generated = Counter("fictures_gateway_generated_tokens", "Tokens generated.", registry=registry)
        self._images = Counter("fictures_gateway_images", "Images drawn.", registry=registry)

    @contextmanager
    def request(self) -> Iterator[RequestObservation]:
        """Count a request as under way; the observation says how it ended."""
        began = time.perf_counter()
        observation = RequestObservation()
        self._running.inc()
        try:
            yield observation
        finally:
            self._running.dec()
            self._requests.labels(observation.endpoint, observation.status).inc()
            self._seconds.labels(observation.endpoint).observe(time.perf_counter() - began)

    def text_done(self, answer: TextAnswer) -> None:
        """A whole answer came."""
        self._prompt_tokens.inc(answer.num_input_tokens)
        self._generated.inc(sum(piece.num_output_tokens for piece in answer.pieces))

    @contextmanager
    def text_stream(self) -> Iterator[StreamObservation]:
        """Observe a text stream from its call on."""
        observation = StreamObservation(self._first_token, self._between_tokens)
        try:
            yield observation
        finally:
            self._prompt_tokens.inc(observation.prompt_tokens)
            self._generated.inc(observation.generated)

    def stream_failed(self, status: int) -> None:
        """A stream that had begun ended with an error, which had this status."""
        self._stream_errors.labels(str(status)).inc()

    def images_done(self, count: int) -> None:
        """Images came."""
        self._images.inc(count)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class RequestObservation:
    """What a request was and how it ended."""

    endpoint = "unknown"
    status = "500"


class StreamObservation:
    """When the pieces of a text stream came."""

    def __init__(self, first_token: Histogram, between_tokens: Histogram) -> None:
        self._first_token, self._between_tokens = first_token, between_tokens
        self._last = time.perf_counter()
        self.prompt_tokens = 0
        self.generated = 0

    def answer(self, answer: TextAnswer) -> None:
        """A piece came."""
        tokens = sum(piece.num_output_tokens for piece in answer.pieces)
        if not tokens:
            return
        now = time.perf_counter()
        if self.generated:
            self._between_tokens.observe((now - self._last) / tokens)
        else:
            self._first_token.observe(now - self._last)
        self._last = now
        self.prompt_tokens = answer.num_input_tokens
        self.generated += tokens
