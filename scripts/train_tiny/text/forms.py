"""Makes requests for JSON and the compact JSON that answers them, for requests bound by a schema."""

import json
import random
from collections.abc import Callable
from typing import Any

from train_tiny.text import world
from train_tiny.text.chats import pick, request
from train_tiny.text.stories import Split, Story, fill, make_story

Value = Callable[[random.Random, Story], Any]


def _slot(name: str) -> Value:
    return lambda rng, story: story.slots[name]


def _number(lowest: int, highest: int) -> Value:
    return lambda rng, story: rng.randrange(lowest, highest)


def _some(words: list[str]) -> Value:
    return lambda rng, story: rng.sample(words, rng.randrange(1, 4))


def _sentence(rng: random.Random, story: Story) -> str:
    return story.beats[0]


def _moral(rng: random.Random, story: Story) -> str:
    return story.beats[-1]


def _yes_or_no(rng: random.Random, story: Story) -> bool:
    return rng.random() < 0.6


def _friends(rng: random.Random, story: Story) -> list[str]:
    return rng.sample(world.SHE_NAMES + world.HE_NAMES, rng.randrange(1, 4))


# Names of fields that mean the same, and what stands in them.
FIELDS: list[tuple[str, Value]] = [
    ("name name name hero character hero_name character_name main_character", _slot("name")),
    ("kind animal animal species type creature", _slot("kind")),
    ("place place location setting home where", _slot("place")),
    ("city town country planet", lambda rng, story: story.slots["friend"] + pick(rng, "ville | town | land | burg")),
    ("mood mood feeling emotion", lambda rng, story: rng.choice(world.MOODS)),
    ("trait personality temper", lambda rng, story: story.slots["trait"] or "brave"),
    ("age age years", _number(1, 100)),
    ("friend friend_name best_friend sidekick", _slot("friend")),
    ("friends names", _friends),
    ("colour color favourite_colour favorite_color", lambda rng, story: rng.choice(world.COLOURS)),
    ("object item thing treasure", _slot("thing")),
    ("food favourite_food favorite_food meal", _slot("food")),
    ("likes hobbies interests", _some(world.LIKES)),
    ("tags keywords items objects things words list", _some(world.THINGS)),
    ("title headline", _slot("title")),
    ("story text description summary beginning plot sentence content answer reply message", _sentence),
    ("ending end moral lesson", _moral),
    ("theme topic subject", _slot("theme")),
    ("genre", lambda rng, story: pick(rng, "adventure | fairy tale | fable | mystery | comedy")),
    ("is_brave brave friendly happy is_happy magical is_magical alive can_fly true_story ok", _yes_or_no),
    ("score rating level power strength", _number(1, 11)),
    ("count number quantity chapters pages id number_of_friends chapter size height weight year", _number(1, 300)),
    ("skill talent job", lambda rng, story: rng.choice(world.SKILLS)),
    ("weather", lambda rng, story: rng.choice(world.WEATHERS)),
    ("time when", _slot("time_")),
]

_ASKS = """
    Give {what} as JSON with {keys}. | Describe {what} as JSON with {keys}. | Return {what} as JSON with the keys
    {keys}. | Write a JSON object for {what} with {keys}. | Make up {what}. Answer in JSON with {keys}. | Give me {what}
    in JSON: {keys}. | Invent {what} and answer with JSON only. Keys: {keys}. | JSON for {what} with the fields {keys}.
    | Create {what}: {keys}. Use JSON. | Give {what} as JSON. | Describe {what} as JSON. | Invent {what}. JSON only.
"""
_PLAIN_ASKS = (
    "Describe {what}. | Invent {what}. | Give me {what}. | Make up {what}. | Who is {what}? | Tell me about {what}."
)
_AFTER_STORY = """
    Now give the hero as JSON with {keys}. | Who is in the story? Answer in JSON with {keys}. | Sum the story up as JSON
    with {keys}. | Describe the hero as JSON: {keys}. | Fill in {keys} as JSON. | As JSON, please: {keys}.
"""


def make_form(rng: random.Random, split: Split = "train") -> tuple[list[str], bool]:
    """A conversation that ends in JSON, and whether nothing in it asks for JSON.

    In the latter case a schema must have forced the answer's first character: the model is not to learn it.
    """
    story = make_story(rng, split, kind=rng.choice(world.ANIMALS) if rng.random() < 0.5 else None)
    luck = rng.random()
    filled = _fill(rng, story, known_only=luck < 0.12)
    if luck >= 0.55:
        is_forced = luck >= 0.9
        return _told_form(rng, story, _PLAIN_ASKS if is_forced else _ASKS), is_forced
    if luck < 0.12:
        question = pick(rng, _AFTER_STORY).format(keys=_list(rng, list(filled)))
        return [request(rng, story), story.text, question, _compact(filled)], False
    if luck < 0.24:
        return [request(rng, story), _compact(filled)], True
    what = _what(rng, story)
    if luck < 0.34:
        return [pick(rng, _PLAIN_ASKS).format(what=what), _compact(filled)], True
    answer: Any = filled
    if luck < 0.40:
        others = [make_story(rng, split) for _ in range(rng.randrange(1, 3))]
        answer = [filled] + [{key: _value(rng, other, key) for key in filled} for other in others]
        what = pick(rng, "some characters | a list of characters | two or three heroes | a few friends")
        if rng.random() < 0.5:
            answer = {pick(rng, "characters | heroes | friends | items | people | animals"): answer}
    elif luck < 0.48:
        answer = {pick(rng, "hero | character | person | animal"): filled} | _fill(rng, make_story(rng, split))
    return [pick(rng, _ASKS).format(what=what, keys=_list(rng, list(filled))), _compact(answer)], False


def _told_form(rng: random.Random, story: Story, asks: str) -> list[str]:
    """A request that tells name, kind and place, or some of them, and the JSON that takes over what it tells."""
    told = [word for word in ("name", "kind", "place") if rng.random() < 0.75] or ["kind"]
    kind = story.slots["kind"] if "kind" in told else pick(rng, "character | hero | person | friend")
    what = f"a {story.slots['looks'] if rng.random() < 0.2 else ''}{kind}"
    what += f" {pick(rng, 'named | called')} {story.slots['name']}" if "name" in told else ""
    what += f" {story.slots['at']}" if "place" in told else ""
    fields = [field for field in FIELDS if _meaning(field) in told and rng.random() < 0.9]
    fields += rng.sample([field for field in FIELDS if _meaning(field) not in told], rng.choice([0, 0, 0, 1, 2]))
    rng.shuffle(fields)
    filled = {rng.choice(keys.split()): value(rng, story) for keys, value in fields or FIELDS[:1]}
    asked = pick(rng, asks).format(what=fill(rng, what, {}, is_sentence=False), keys=_list(rng, list(filled)))
    return [asked, _compact(filled)]


def _meaning(field: tuple[str, Value]) -> str:
    """What a field is about: the first of its names."""
    return field[0].split()[0]


def _fill(rng: random.Random, story: Story, *, known_only: bool = False) -> dict[str, Any]:
    fields = [field for field in FIELDS if not known_only or field[0].split()[0] in ("name", "kind", "place")]
    if known_only:
        fields += [field for field in FIELDS if field[0].split()[0] == "title"]
        fields += [field for field in FIELDS if field[0].split()[0] == "friend" and story.mentions("friend")]
    count = min(len(fields), rng.randrange(1, 7))
    chosen = rng.sample(fields, count)
    if not known_only and rng.random() < 0.6:
        chosen = [FIELDS[0], *(field for field in chosen if field is not FIELDS[0])]
    return {rng.choice(keys.split()): value(rng, story) for keys, value in chosen}


def _value(rng: random.Random, story: Story, key: str) -> Any:
    return next(value(rng, story) for keys, value in FIELDS if key in keys.split())


def _what(rng: random.Random, story: Story) -> str:
    looks = story.slots["looks"] if rng.random() < 0.5 else ""
    hero = f"a {looks}{story.slots['kind']}"
    if rng.random() < 0.35:
        hero = pick(
            rng, "a character | a hero | a person | somebody | an animal | a story | the hero of a story | a friend"
        )
    if rng.random() < 0.4:
        hero += f" {story.slots['at']}"
    if rng.random() < 0.2:
        hero += f" named {story.slots['name']}"
    return fill(rng, hero, {}, is_sentence=False)


def _list(rng: random.Random, keys: list[str]) -> str:
    if len(keys) == 1 or rng.random() < 0.4:
        return ", ".join(keys)
    return ", ".join(keys[:-1]) + f" and {keys[-1]}"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
