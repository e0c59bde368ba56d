"""When generated text is sent on: each token at once while few streams run, in larger pieces when many do.

A response costs this process and tritonserver some 100 µs of CPU, however long its text is. With a response a token
and stream, many streams would wait for their responses rather than for the model. So a stream's text is held back for
a time that grows with the number of streams, up to a limit that people do not notice.

vLLM puts a request's outputs into a `RequestOutputCollector` and wakes the task that waits for them. Here nobody waits:
the collector tells the `Pacer`, which looks after all requests of an engine step in one pass.
"""

import asyncio
import os
from collections.abc import Callable

from vllm.outputs import RequestOutput
from vllm.v1.engine.output_processor import RequestOutputCollector

_HOLD_A_STREAM = 0.00125  # seconds: up to the limit, all streams together get 800 responses a second


def hand_out_whole_steps(sequences: int) -> None:
    """Has an engine that is started after this put all outputs of a step before anything else gets its turn.

    vLLM makes way after each 128. All that was put would then be sent on while later steps already wait, a response for
    each token: sending would keep the event loop from ever catching up, with half or less of the tokens/s.

    Args:
        sequences: As many as run at most, each of which has one output in a step.
    """
    os.environ.setdefault("VLLM_V1_OUTPUT_PROC_CHUNK_SIZE", str(sequences))


class Pacer:
    """Delivers the outputs of an engine's requests, within the event loop that it is used in."""

    def __init__(self) -> None:
        self._streams = 0
        self._told: list[_Delivery] = []

    async def deliver(
        self, collector: RequestOutputCollector, send: Callable[[RequestOutput], None], longest_hold: float
    ) -> None:
        """Hands each output to `send`, the first at once, the last as soon as it is there.

        Args:
            collector: What vLLM's `add_request` returned.
            send: Called with what is new since its last call.
            longest_hold: Seconds that text may wait for more; 0: every token at once.

        Raises:
            Exception: What vLLM or `send` raised.
        """
        delivery = _Delivery(self, collector, send, longest_hold)
        is_stream = collector.aggregate  # of deltas; an answer in one piece costs one response, whenever it comes
        self._streams += is_stream
        try:
            await delivery.done
        finally:
            self._streams -= is_stream
            delivery.cancel_timer()

    @property
    def hold(self) -> float:
        """Seconds between two responses of a stream that the streams of this moment call for."""
        return (self._streams - 1) * _HOLD_A_STREAM

    def tell(self, delivery: "_Delivery") -> None:
        """There is an output for this request: look at it when vLLM has put those of all requests."""
        if not self._told:
            asyncio.get_running_loop().call_soon(self._pass_on)
        self._told.append(delivery)

    def _pass_on(self) -> None:
        told, self._told = self._told, []
        now = asyncio.get_running_loop().time()
        for delivery in told:
            delivery.take(now)


class _Delivery:
    """One request's outputs; stands in for the event that the collector sets when it has one."""

    def __init__(
        self,
        pacer: Pacer,
        collector: RequestOutputCollector,
        send: Callable[[RequestOutput], None],
        longest_hold: float,
    ) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pacer = pacer
        self._collector = collector
        self._send = send
        self._longest_hold = longest_hold
        self._held: RequestOutput | None = None
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        collector.ready = self
        if collector.output is not None:  # it came while vLLM took the request
            self.set()

    def set(self) -> None:
        """vLLM's collector has an output, and had none."""
        self._pacer.tell(self)

    def clear(self) -> None:
        """The output has been taken."""

    def take(self, now: float) -> None:
        """Takes what the collector has, and sends it on if it is time."""
        if self.done.done():
            return
        try:
            output = self._collector.get_nowait()
            if output is None:
                return
            if self._held is None:
                self._held = output
            else:
                self._held.add(output, aggregate=self._collector.aggregate)
        except Exception as error:  # of this request: the others still get theirs
            if self._held is not None:
                self._send_held(now)
            if not self.done.done():
                self.done.set_exception(error)
            return
        if self._held.finished or now >= self._due:
            self._send_held(now)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(self._due, self._send_late)

    def _send_late(self) -> None:
        self._timer = None
        if not self.done.done():
            self._send_held(self._due)

    def _send_held(self, now: float) -> None:
        self.cancel_timer()
        held, self._held = self._held, None
        self._due = now + min(self._longest_hold, self._pacer.hold)
        try:
            self._send(held)
        except Exception as error:
            self.done.set_exception(error)
            return
        if held.finished:
            self.done.set_result(None)

    def cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
