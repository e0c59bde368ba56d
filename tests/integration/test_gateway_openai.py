"""OpenAI's own Python SDK against the gateway: it parses every answer, and needs no workaround."""

import asyncio
import base64
import io
import json

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from PIL import Image
from pydantic import BaseModel, Field

from conftest import Server
from fictures import AsyncClient

PROMPT = "Once upon a time"
CHAT = [{"role": "user", "content": "Tell me a story"}]
SMALL = {"size": "256x256", "extra_body": {"num_inference_steps": 6, "seed": 3}}


@pytest.fixture
def client(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.api_url}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def async_client(server: Server) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.api_url}/v1", api_key="none", max_retries=0, timeout=120)


def test_models_are_listed_and_told_of(client: OpenAI) -> None:
    assert sorted(model.id for model in client.models.list()) == ["gemma", "sdxl"]
    assert client.models.retrieve("gemma").owned_by == "fictures"


def test_a_completion_streams_what_it_answers_at_once(client: OpenAI) -> None:
    options = {"model": "gemma", "prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    whole = client.completions.create(**options)
    pieces = list(client.completions.create(stream=True, stream_options={"include_usage": True}, **options))
    assert "".join(piece.choices[0].text for piece in pieces[:-1]) == whole.choices[0].text
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert pieces[-1].choices == []
    assert pieces[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 24


def test_a_chat_streams_what_it_answers_at_once(client: OpenAI) -> None:
    options = {"model": "gemma", "messages": CHAT, "max_completion_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **options))
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert [delta.role for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_several_answers_to_a_chat_each_have_their_index(client: OpenAI) -> None:
    options = {"model": "gemma", "messages": CHAT, "n": 2, "max_tokens": 6, "seed": 1}
    whole = client.chat.completions.create(**options)
    texts, roles = ["", ""], [0, 0]
    for chunk in client.chat.completions.create(stream=True, **options):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            roles[choice.index] += choice.delta.role == "assistant"
    assert roles == [1, 1]
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert texts == [choice.message.content for choice in whole.choices]
    assert texts[0] != texts[1]
    assert whole.usage.completion_tokens == 12


class Person(BaseModel):
    """What an answer is parsed as."""

    name: str = Field(max_length=8)
    age: int = Field(ge=0, le=9)


def test_the_sdk_parses_an_answer_into_a_class_of_the_callers(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model="gemma", messages=CHAT, max_tokens=200, response_format=Person)
    person = answer.choices[0].message.parsed
    assert isinstance(person, Person)
    assert person == Person.model_validate_json(answer.choices[0].message.content)


def test_the_sdks_own_accumulation_of_a_stream_works(client: OpenAI) -> None:
    form = {"structured_outputs": {"choice": ["yes", "no"]}}
    with client.chat.completions.stream(model="gemma", messages=CHAT, max_tokens=12, extra_body=form) as stream:
        kinds = {event.type for event in stream}
        assert stream.get_final_completion().choices[0].message.content in ("yes", "no")
    assert {"chunk", "content.delta", "content.done"} <= kinds


def test_several_prompts_and_texts_each_have_their_index(client: OpenAI) -> None:
    options = {"model": "gemma", "prompt": ["One", "Two"], "n": 2, "max_tokens": 6, "seed": 1}
    whole = client.completions.create(**options)
    texts: dict[int, str] = {}
    reasons: list[int] = []
    for piece in client.completions.create(stream=True, **options):
        for choice in piece.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            reasons += [choice.index] if choice.finish_reason else []
    assert sorted(reasons) == [0, 1, 2, 3], "each ends once"
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert [texts[index] for index in range(4)] == [choice.text for choice in whole.choices]
    assert whole.usage.completion_tokens == 24


def test_logprobs_tell_of_each_token(client: OpenAI) -> None:
    chat = client.chat.completions.create(
        model="gemma", messages=CHAT, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    content = chat.choices[0].logprobs.content
    assert len(content) == 5
    for token in content:
        assert bytes(token.bytes).decode() == token.token
        assert [other.logprob for other in token.top_logprobs] == sorted(
            (other.logprob for other in token.top_logprobs), reverse=True
        )
        assert token.top_logprobs[0].token == token.token, "greedy takes the likeliest"
    plain = client.completions.create(model="gemma", prompt=PROMPT, max_tokens=5, temperature=0, logprobs=2)
    logprobs = plain.choices[0].logprobs
    assert "".join(logprobs.tokens) == plain.choices[0].text
    assert [len(top) for top in logprobs.top_logprobs] == [2] * 5
    assert logprobs.text_offset[0] == 0


def test_stop_echo_and_seed_do_what_they_say(client: OpenAI) -> None:
    options = {"model": "gemma", "prompt": PROMPT, "max_tokens": 24, "seed": 7}
    first, again = (client.completions.create(**options).choices[0].text for _ in range(2))
    assert first == again
    stop = first.split()[2]
    stopped = client.completions.create(stop=stop, **options).choices[0]
    assert stopped.text == first[: first.index(stop)]
    assert stopped.finish_reason == "stop"
    assert client.completions.create(echo=True, **options).choices[0].text == PROMPT + first


def test_a_json_schema_holds(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model="gemma", messages=CHAT, max_tokens=200, response_format=form)
    person = json.loads(answer.choices[0].message.content)
    assert sorted(person) == ["age", "name"]


def test_images_come_as_files_with_their_seed(client: OpenAI) -> None:
    answer = client.images.generate(model="sdxl", prompt="a boat", n=2, output_format="webp", **SMALL)
    pictures = [Image.open(io.BytesIO(base64.b64decode(image.b64_json))) for image in answer.data]
    assert [(picture.format, picture.size) for picture in pictures] == [("WEBP", (256, 256))] * 2
    assert [image.seed for image in answer.data] == [3, 4]


def test_a_stream_of_images_has_its_previews_and_one_end(client: OpenAI) -> None:
    events = list(client.images.generate(model="sdxl", prompt="a boat", stream=True, partial_images=2, **SMALL))
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:-1]] == [0, 1]
    last = Image.open(io.BytesIO(base64.b64decode(events[-1].b64_json)))
    assert last.size == (256, 256)


@pytest.mark.parametrize(
    ("options", "error", "parameter"),
    [
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "tools"),
        ({"model": "nobody"}, openai.NotFoundError, "model"),
        ({"model": "sdxl"}, openai.BadRequestError, "model"),
        ({"logit_bias": {"99999999": 1}}, openai.BadRequestError, "logit_bias"),
        ({"extra_body": {"lora_name": "loud"}}, openai.BadRequestError, "lora_name"),
        ({"messages": []}, openai.BadRequestError, "messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_is_named_as_the_sdk_expects(
    client: OpenAI, options: dict, error: type[openai.APIStatusError], parameter: str, stream: bool
) -> None:
    with pytest.raises(error) as refused:
        client.chat.completions.create(
            **{"model": "gemma", "messages": CHAT, "max_tokens": 4, "stream": stream} | options
        )
    assert refused.value.param == parameter
    assert parameter in refused.value.body["message"]


async def test_the_async_sdk_chats_draws_and_is_told_what_is_wrong(async_client: AsyncOpenAI) -> None:
    options = {"model": "gemma", "messages": CHAT, "max_tokens": 12, "temperature": 0}
    whole = await async_client.chat.completions.create(**options)
    stream = await async_client.chat.completions.create(stream=True, **options)
    deltas = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(deltas) == whole.choices[0].message.content

    image = await async_client.images.generate(model="sdxl", prompt="a boat", **SMALL)
    events = await async_client.images.generate(model="sdxl", prompt="a boat", stream=True, partial_images=1, **SMALL)
    *previews, last = [event async for event in events]
    assert [event.type for event in previews] == ["image_generation.partial_image"]
    assert pixels(last.b64_json) == pixels(image.data[0].b64_json)

    with pytest.raises(openai.BadRequestError) as refused:
        await async_client.chat.completions.create(**options | {"temperature": 3})
    assert refused.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        await async_client.images.generate(model="nobody", prompt="a boat")


def pixels(file: str) -> bytes:
    return Image.open(io.BytesIO(base64.b64decode(file))).tobytes()


def test_previews_are_spread_over_steps_that_only_the_model_knows(client: OpenAI) -> None:
    options = {"size": "256x256", "extra_body": {"seed": 3}}
    events = list(client.images.generate(model="sdxl", prompt="a boat", stream=True, partial_images=3, **options))
    *previews, last = [event.b64_json for event in events]
    assert len({*previews}) == 3
    assert pixels(last)


async def test_a_hundred_streams_at_once_all_arrive_and_are_what_triton_says(
    server: Server, async_client: AsyncOpenAI
) -> None:
    prompts = [f"{PROMPT} {number}" for number in range(100)]
    options = {"max_tokens": 32, "temperature": 0}

    async def through_the_gateway(prompt: str) -> str:
        stream = await async_client.completions.create(model="gemma", prompt=prompt, stream=True, **options)
        return "".join([piece.choices[0].text async for piece in stream])

    texts = await asyncio.gather(*map(through_the_gateway, prompts))
    async with AsyncClient(server.grpc_url) as direct:
        expected = await asyncio.gather(*(direct.generate_text(prompt, **options) for prompt in prompts))
    assert texts == [result.text for result in expected]
