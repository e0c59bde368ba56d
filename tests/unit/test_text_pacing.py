"""When text is sent on: vLLM's own collector, as its engine fills it, and the pacer behind it."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from vllm import envs
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector

from text_backend.pacing import Pacer, hand_out_whole_steps

STEP = 0.004  # seconds of an engine's step


def token(text: str, *, last: bool = False) -> RequestOutput:
    completion = CompletionOutput(0, text, [1], 0.0, None, finish_reason="length" if last else None)
    return RequestOutput("r", "", [1], None, [completion], last)


class Stream:
    """One request: what the engine puts in, and what came out when."""

    def __init__(self, kind: RequestOutputKind = RequestOutputKind.DELTA) -> None:
        self.collector = RequestOutputCollector(kind, "r")
        self.pieces: list[tuple[float, RequestOutput]] = []

    def send(self, output: RequestOutput) -> None:
        self.pieces.append((time.monotonic(), output))

    @property
    def texts(self) -> list[str]:
        return [piece.outputs[0].text for _, piece in self.pieces]

    @property
    def gaps(self) -> list[float]:
        times = [moment for moment, _ in self.pieces]
        return [after - before for before, after in itertools.pairwise(times)]


def run(streams: list[Stream], tokens: int, longest_hold: float = 0.05) -> None:
    """Delivers `tokens` to each stream, one in each of the engine's steps."""

    async def steps() -> None:
        for number in range(tokens):
            await asyncio.sleep(STEP)
            for stream in streams:
                stream.collector.put(token(f"{number} ", last=number == tokens - 1))

    async def all_of_it() -> None:
        pacer = Pacer()
        deliveries = [pacer.deliver(stream.collector, stream.send, longest_hold) for stream in streams]
        await asyncio.wait_for(asyncio.gather(steps(), *deliveries), 30)

    asyncio.run(all_of_it())


def test_one_stream_gets_each_token_by_itself() -> None:
    stream = Stream()
    run([stream], 20)
    assert stream.texts == [f"{number} " for number in range(20)]


def test_answers_in_one_piece_do_not_make_a_stream_wait() -> None:
    stream, answers = Stream(), [Stream(RequestOutputKind.FINAL_ONLY) for _ in range(40)]

    async def both() -> None:
        pacer = Pacer()
        whole = [asyncio.ensure_future(pacer.deliver(each.collector, each.send, 0.05)) for each in answers]
        delivery = asyncio.ensure_future(pacer.deliver(stream.collector, stream.send, 0.05))
        for number in range(20):
            await asyncio.sleep(STEP)
            stream.collector.put(token(f"{number} ", last=number == 19))
        await asyncio.wait_for(delivery, 30)
        for each in answers:
            each.collector.put(token("whole", last=True))
        await asyncio.wait_for(asyncio.gather(*whole), 30)

    asyncio.run(both())
    assert stream.texts == [f"{number} " for number in range(20)]
    assert all(each.texts == ["whole"] for each in answers)


def test_many_streams_get_larger_pieces_the_first_token_at_once_and_all_of_the_text() -> None:
    streams = [Stream() for _ in range(40)]
    run(streams, 50)
    for stream in streams:
        assert stream.texts[0] == "0 "
        assert "".join(stream.texts) == "".join(f"{number} " for number in range(50))
        assert 4 <= len(stream.texts) < 25
        assert [piece.finished for _, piece in stream.pieces] == [False] * (len(stream.pieces) - 1) + [True]
        assert sum(len(piece.outputs[0].token_ids) for _, piece in stream.pieces) == 50


def test_text_is_held_no_longer_than_allowed() -> None:
    streams = [Stream() for _ in range(100)]
    run(streams, 40, longest_hold=0.02)
    gaps = sorted(gap for stream in streams for gap in stream.gaps)
    assert gaps[len(gaps) // 2] < 0.05
    streams = [Stream() for _ in range(30)]
    run(streams, 20, longest_hold=0.0)
    assert all(len(stream.texts) == 20 for stream in streams)


def test_held_text_is_sent_when_the_engine_stalls() -> None:
    streams = [Stream() for _ in range(30)]

    async def stalling_engine() -> None:
        pacer = Pacer()
        deliveries = [asyncio.ensure_future(pacer.deliver(s.collector, s.send, 0.05)) for s in streams]
        await asyncio.sleep(0)
        for text in ("first", "held"):
            for stream in streams:
                stream.collector.put(token(text))
            await asyncio.sleep(0.001)
        assert [stream.texts for stream in streams] == [["first"]] * 30
        await asyncio.sleep(0.2)
        assert [stream.texts for stream in streams] == [["first", "held"]] * 30
        for delivery in deliveries:
            delivery.cancel()
        await asyncio.gather(*deliveries, return_exceptions=True)

    asyncio.run(stalling_engine())


def test_steps_that_wait_are_sent_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """More streams than vLLM hands out at a time by itself, and an engine that is ahead by some steps."""
    streams, steps = 200, 5
    monkeypatch.setenv("VLLM_V1_OUTPUT_PROC_CHUNK_SIZE", "")  # which has it set back afterwards
    monkeypatch.delenv("VLLM_V1_OUTPUT_PROC_CHUNK_SIZE")
    envs.disable_envs_cache()
    hand_out_whole_steps(streams)
    sent: Counter[str] = Counter()

    async def waiting_steps() -> None:
        waiting: asyncio.Queue[EngineCoreOutputs] = asyncio.Queue()
        engine = SimpleNamespace(  # what vLLM needs of an engine to hand out what came from its process
            engine_core=SimpleNamespace(get_output_async=waiting.get),
            output_processor=OutputProcessor(None, log_stats=False),
            output_handler=None,
            renderer=SimpleNamespace(mm_processor_cache=None),
            log_stats=False,
            logger_manager=None,
        )
        pacer, deliveries = Pacer(), []
        for name in map(str, range(streams)):
            sampling = SamplingParams(output_kind=RequestOutputKind.DELTA, max_tokens=steps, detokenize=False)
            collector = RequestOutputCollector(RequestOutputKind.DELTA, name)
            engine.output_processor.add_request(request(name, sampling), None, queue=collector)
            deliveries.append(pacer.deliver(collector, lambda output: sent.update([output.request_id]), 0.0))
        for number in range(steps):
            end = FinishReason.LENGTH if number == steps - 1 else None
            waiting.put_nowait(
                EngineCoreOutputs(outputs=[EngineCoreOutput(str(i), [7], finish_reason=end) for i in range(streams)])
            )
        tasks = [asyncio.ensure_future(delivery) for delivery in deliveries]
        await asyncio.sleep(0)
        AsyncLLM._run_output_handler(engine)
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
        engine.output_handler.cancel()

    asyncio.run(waiting_steps())
    assert sent == {str(i): 1 for i in range(streams)}


def request(name: str, sampling: SamplingParams) -> EngineCoreRequest:
    return EngineCoreRequest(
        request_id=name,
        external_req_id=name,
        prompt_token_ids=[1],
        mm_features=None,
        sampling_params=sampling,
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )


def test_what_came_before_anybody_listened_is_sent() -> None:
    stream = Stream()
    stream.collector.put(token("all of it", last=True))
    run([stream], 0)
    assert stream.texts == ["all of it"]


def failing(stream: Stream) -> None:
    stream.collector.put(ValueError("the engine died"))


def failing_beside_text(stream: Stream) -> None:
    stream.collector.put(token("lost"))
    stream.collector.put(ValueError("the engine died"))


@pytest.mark.parametrize("fail", [failing, failing_beside_text])
def test_an_engine_that_fails_ends_the_stream(fail: Callable[[Stream], None]) -> None:
    stream = Stream()

    async def fails() -> None:
        pacer = Pacer()
        delivery: Awaitable[None] = asyncio.ensure_future(pacer.deliver(stream.collector, stream.send, 0.05))
        await asyncio.sleep(0)
        fail(stream)
        with pytest.raises(ValueError, match="the engine died"):
            await asyncio.wait_for(delivery, 5)
        assert pacer.hold <= 0  # nothing counts as running

    asyncio.run(fails())


def test_a_writer_that_fails_ends_its_own_stream_only() -> None:
    broken, sound = Stream(), Stream()

    def refuse(output: RequestOutput) -> None:
        raise OSError("nobody reads")

    async def both() -> None:
        pacer = Pacer()
        deliveries = [pacer.deliver(broken.collector, refuse, 0.05), pacer.deliver(sound.collector, sound.send, 0.05)]
        results = asyncio.gather(*deliveries, return_exceptions=True)
        await asyncio.sleep(0)
        for stream in (broken, sound):
            stream.collector.put(token("end", last=True))
        failure, success = await asyncio.wait_for(results, 5)
        assert isinstance(failure, OSError)
        assert success is None

    asyncio.run(both())
    assert sound.texts == ["end"]


def test_an_output_that_does_not_fit_to_what_is_held_ends_its_own_stream_only() -> None:
    streams = [Stream() for _ in range(30)]
    misfit = token("misfit")
    misfit.outputs = None  # which vLLM cannot join to the others

    async def engine() -> None:
        pacer = Pacer()
        deliveries = asyncio.gather(
            *(pacer.deliver(stream.collector, stream.send, 0.05) for stream in streams), return_exceptions=True
        )
        await asyncio.sleep(0)
        for text in ("first", "held"):
            for stream in streams:
                stream.collector.put(token(text))
            await asyncio.sleep(0.001)
        for stream in streams:
            stream.collector.put(misfit if stream is streams[0] else token("end", last=True))
        failure, *others = await asyncio.wait_for(deliveries, 5)
        assert isinstance(failure, TypeError)
        assert others == [None] * 29

    asyncio.run(engine())
    assert streams[0].texts == ["first", "held"]
    assert all("".join(stream.texts) == "firstheldend" for stream in streams[1:])
