"""Who is measured: each a way to the same model, with requests that ask for the same tokens."""

import json
import queue
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tritonclient.grpc as grpc

from benchmarks.errors import BenchmarkError
from benchmarks.text.in_process import NAME as ENGINE
from benchmarks.text.in_process import EngineInProcess, Load

NO_ENGINE = Path(__file__).with_name("no_engine")
"""A model that sends ready-made words: one for each token, or as many and as far apart as it is told."""
HTTP, GRPC, GATEWAY = "Triton, HTTP", "Triton, gRPC", "gateway"
FLOOR = f"{HTTP}, no engine"
FLOOR_PACED = f"{FLOOR}, paced"
EACH_TOKEN, NOT_STREAMED = ", each token", ", not streamed"
"""Behind the name of a contender that answers in another way."""
_WITHOUT_PROMPT = "exclude_input_in_output"
_TENSORS = ("stream", _WITHOUT_PROMPT)
"""What is a tensor of its own in a request to Triton; all else is how to sample."""
_TIMEOUT = 60.0  # seconds of one request


@dataclass(frozen=True)
class Work:
    """What every request asks for; greedy, and as many tokens as wanted whether the text has ended or not.

    Every request has a number in front of its prompt, so that no prefix cache knows it already.
    """

    text: str
    prompt_tokens: int
    """About as many as a prompt has."""
    tokens: int
    number: str = "0000000"
    """Always of so many digits, which are as many tokens."""

    def numbered(self, number: int) -> "Work":
        """The same with a number of its own, below ten million."""
        return replace(self, number=f"{number:07d}")

    @property
    def prompt(self) -> str:
        return f"{self.number}. {self.text}"

    @property
    def sampling(self) -> dict[str, Any]:
        return {"max_tokens": self.tokens, "temperature": 0, "ignore_eos": True}


@dataclass(frozen=True)
class Contender:
    """A server's endpoint, or an engine, that text is asked from.

    Args:
        name: What the report calls it.
        host: `host:port`.
        path: Of the HTTP endpoint, without a leading slash; empty where it is none.
        body: What a request has besides the prompt and how to sample.
        pid: The process whose whole tree is the server; None: somewhere else.
        is_variant: Whether it is another way of streaming, which answers in one piece know nothing of.
        tells_finish: Whether an answer over HTTP says why it ended, so that one that was cut off is seen; Triton's does
            only if asked to, which costs an output more in each response.
        metrics_url: Where the server counts the tokens that it generates.
        engine: The engine that is asked in place of a server.
        paced_like: Another contender, as often as which it is to respond.
    """

    name: str
    host: str
    path: str
    body: dict[str, Any]
    pid: int | None = None
    is_variant: bool = False
    tells_finish: bool = False
    metrics_url: str | None = None
    engine: EngineInProcess | None = None
    paced_like: str | None = None

    @property
    def is_http(self) -> bool:
        return bool(self.path)

    @property
    def is_grpc(self) -> bool:
        return not self.path and self.engine is None

    @property
    def is_openai(self) -> bool:
        return self.path.startswith("v1/")

    @property
    def is_streaming(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def url(self) -> str:
        return f"http://{self.host}/{self.path}"

    def request(self, work: Work) -> dict[str, Any]:
        """The body of an HTTP request."""
        prompt = {"prompt": work.prompt} if self.is_openai else {"text_input": work.prompt}
        return self.body | prompt | work.sampling

    def tensors(self, work: Work) -> dict[str, Any]:
        """The same as tensors of a gRPC request, in perf_analyzer's format."""
        tensors = {"text_input": [work.prompt]}
        tensors |= {name: [self.body[name]] for name in _TENSORS if name in self.body}
        own = {name: value for name, value in self.body.items() if name not in _TENSORS}
        return tensors | {"sampling_parameters": [json.dumps(work.sampling | own)]}

    def load(self, works: Sequence[Work], in_flight: int) -> Load:
        """The same for the engine without a server."""
        return Load([work.prompt for work in works], works[0].sampling, self.is_streaming, in_flight)

    def at_pace(self, responses: float, gap: float) -> "Contender":
        """The same with so many responses a request, so many seconds apart."""
        return replace(self, body=self.body | {"responses": round(responses), "gap_us": round(1e6 * gap)})

    def whole(self) -> "Contender":
        """The same, answering in one piece."""
        body = self.body | {"stream": False}
        if not self.is_openai:
            body[_WITHOUT_PROMPT] = True
        path = self.path.replace("generate_stream", "generate")
        return replace(self, name=self.name + NOT_STREAMED, body=body, path=path)


def openai(name: str, host: str, pid: int | None, metrics_url: str | None = None) -> Contender:
    """`/v1/completions` of any server that has OpenAI's API and vLLM's `ignore_eos`."""
    body = {"model": "gemma", "stream": True}
    return Contender(name, host, "v1/completions", body, pid, tells_finish=True, metrics_url=metrics_url)


def triton_http(host: str, pid: int | None, metrics_url: str | None = None) -> Contender:
    """`generate_stream` of Triton."""
    path = "v2/models/gemma/generate_stream"
    return Contender(HTTP, host, path, {"stream": True}, pid, metrics_url=metrics_url)


def triton_grpc(host: str, pid: int | None, metrics_url: str | None = None) -> Contender:
    """A gRPC stream of Triton."""
    return Contender(GRPC, host, "", {"stream": True}, pid, metrics_url=metrics_url)


def without_engine(host: str, pid: int | None) -> Contender:
    """`generate_stream` of the model in `NO_ENGINE`: what the path of Triton's responses can do at most."""
    path = f"v2/models/{NO_ENGINE.name}/generate_stream"
    return Contender(FLOOR, host, path, {"stream": True}, pid, is_variant=True)


def without_engine_paced(host: str, pid: int | None) -> Contender:
    """The same, as often as `generate_stream` of Triton responds: what those responses cost without an engine."""
    return replace(without_engine(host, pid), name=FLOOR_PACED, paced_like=HTTP)


def without_server(engine: EngineInProcess) -> Contender:
    """The engine in a process that only makes requests: what every server comes near to at best."""
    return Contender(ENGINE, "", "", {"stream": True}, engine.pid, engine=engine)


def unpaced(contender: Contender) -> Contender:
    """The same with a response for each token, however many streams run."""
    return replace(
        contender, name=contender.name + EACH_TOKEN, body=contender.body | {"stream_interval_ms": 0}, is_variant=True
    )


def check_same_text(contenders: list[Contender], work: Work) -> str:
    """The text that all give.

    Raises:
        BenchmarkError: They do not, or one does not answer.
    """
    texts = {contender.name: _text_of(contender, work) for contender in contenders}
    first, *others = texts
    for name in others:
        if texts[name] != texts[first]:
            raise BenchmarkError(f"{name} and {first} give different texts: {texts[name]!r} and {texts[first]!r}")
    return texts[first]


def _text_of(contender: Contender, work: Work) -> str:
    if contender.engine is not None:
        (answer,) = contender.engine.answer(contender.load([work], 1), _TIMEOUT)
        return str(answer["text"])
    return _http_text(contender, work) if contender.is_http else _grpc_text(contender, work)


def _http_text(contender: Contender, work: Work) -> str:
    try:
        answer = httpx.post(contender.url, json=contender.request(work), timeout=_TIMEOUT, trust_env=False)
        answer.raise_for_status()
        if not contender.is_streaming:
            return text_of(answer.json())
        events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        return "".join(text_of(json.loads(event)) for event in events if event != "[DONE]")
    except (httpx.HTTPError, ValueError, LookupError) as error:
        raise BenchmarkError(f"{contender.name}: no answer with a text: {error!r}") from error


def _grpc_text(contender: Contender, work: Work) -> str:
    answers: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()
    pieces = []
    try:
        with grpc.InferenceServerClient(contender.host) as client:
            client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=_TIMEOUT)
            client.async_stream_infer("gemma", _grpc_inputs(contender, work), enable_empty_final_response=True)
            while True:
                result, error = answers.get(timeout=_TIMEOUT)
                if error is not None:
                    raise error
                text = result.as_numpy("text_output")
                pieces += [] if text is None else [piece.decode() for piece in text]
                if result.get_response().parameters["triton_final_response"].bool_param:
                    return "".join(pieces)
    except (grpc.InferenceServerException, queue.Empty) as error:
        raise BenchmarkError(f"{contender.name}: {error!r}") from error


def _grpc_inputs(contender: Contender, work: Work) -> list[Any]:
    inputs = []
    for name, values in contender.tensors(work).items():
        is_bool = isinstance(values[0], bool)
        given = np.array(values, dtype=bool if is_bool else object)
        tensor = grpc.InferInput(name, given.shape, "BOOL" if is_bool else "BYTES")
        inputs.append(tensor.set_data_from_numpy(given))
    return inputs


def text_of(answer: dict[str, Any]) -> str:
    """The text of an answer or of an event, OpenAI's or Triton's."""
    if "choices" in answer:
        return "".join(choice["text"] for choice in answer["choices"])
    return str(answer.get("text_output", ""))
