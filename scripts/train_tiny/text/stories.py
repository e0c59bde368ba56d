"""Makes small stories: a cast drawn from world.py walks through one of the plots of plots.txt.

Every tenth pair of hero and place is held out: training never sees the two together, evaluation sees nothing else.
"""

import random
import re
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from train_tiny.text import world

Split = Literal["train", "held-out"]
Length = Literal["short", "middle", "long"]

OPENERS = """
    Once upon a time, a {looks}{kind} named {name} lived {home}. | Once upon a time there was a {looks}{kind} named
    {name}, who lived {home}. | There once was a {looks}{kind} {home}. {His} name was {name}. | Long ago, {home}, there
    lived a {looks}{kind} named {name}. | {name} was a {looks}{kind} who lived {home}. | {Home} lived a
    {looks}{kind}, and everybody called {him} {name}. | {Home} there lived a {looks}{kind}. {His} name was {name}. |
    A {looks}{kind} named {name} had {his} home {home}. | Many years ago a {looks}{kind} called {name} lived {home}. |
    This is the story of {name}, a {looks}{kind} who lived {home}. | Once there was a {looks}{kind} {home} whose name
    was {name}. | Far, far away, {home}, lived {name}, a {looks}{kind}. | The {looks}{kind} {home} was called {name}.
"""
SETTINGS = """
    {name} loved the {detail} and the {detail2}. | All around were {detail} and {detail2}. | {He} liked to listen to
    {sound}. | Every morning {he} woke up to {sound}. | {His} favourite place was {spot}. | There were {detail}
    wherever {he} looked. | It was a good place, full of {detail}. | From {his} door {he} could see the {detail}.
"""
CLOSINGS = """
    The end. | And that is the end of the story. | That night {name} slept well. | And if you go {to}, you may meet
    {him} there. | They still tell this story {at}. | And {sound} went on as before. | The moon smiled down on the
    {place}.
"""

_ARTICLE = re.compile(r"\b([Aa]) (?=honest|[aeiou](?!nicorn))")
_CHOICE = re.compile(r"\[([^]]+)\]")
_ONSETS = world.words("b bl br d dr f fl g gl gr h j k kl l m n p pl r s st t tr v w z zh")
_VOWELS = world.words("a e i o u oo ee ai")
_CODAS = world.words("b d g k l m n p r s t x z lf nd rk sk") + [""] * 6


@dataclass(frozen=True)
class Plot:
    """A plot's name, the alternatives of its request words, titles and moods, and its beats."""

    name: str
    themes: list[str]
    titles: list[str]
    feelings: list[str]
    beats: list[tuple[bool, list[str]]]
    """Whether short stories leave the beat out, and its alternatives."""


@dataclass(frozen=True)
class Story:
    """A story and what is true in it."""

    text: str
    beats: list[str]
    """Its parts in order; joined by blanks they are the text without paragraphs."""
    slots: dict[str, str]
    """The filled slots: name, kind, place, at, friend, thing, ... and theme, title, length, plot."""

    def mentions(self, slot: str) -> bool:
        """Whether that slot's value stands in the text."""
        return self.slots[slot] in self.text


def is_held_out(hero: str, place: str) -> bool:
    """Whether training never sees this hero in this place: true of every tenth pair."""
    return zlib.crc32(f"{hero} {place}".encode()) % 10 == 0


def is_new_word(word: str) -> bool:
    """Whether training never sees this made-up word: true of every fifth one."""
    return zlib.crc32(word.lower().encode()) % 5 == 0


def made_up_word(rng: random.Random, split: Split) -> str:
    """A word of two or three syllables that means nothing, in lower case."""
    while True:
        syllables = (
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(rng.choice((2, 2, 3)))
        )
        word = "".join(syllables)
        if is_new_word(word) == (split == "held-out"):
            return word


def make_story(
    rng: random.Random,
    split: Split = "train",
    *,
    plot: Plot | None = None,
    kind: str | None = None,
    usual: bool = False,
) -> Story:
    """A new story. `usual`: its hero, place and names come from the common lists, none is odd or made up."""
    plot = plot or rng.choice(plots())
    length: Length = rng.choice(("short", "middle", "middle", "long"))
    slots = _cast(rng, split, plot, kind, usual)
    slots["length"] = length
    templates = [rng.choice(_alternatives(OPENERS))]
    extras = [rng.choice(_alternatives(SETTINGS))]
    if slots["trait"]:
        extras.insert(rng.randrange(2), rng.choice(_alternatives(world.TRAITS[slots["trait"]])))
    count = {"short": 0, "middle": rng.randrange(2), "long": len(extras)}[length]
    templates += extras[:count]
    chance = {"short": 0.0, "middle": 0.5, "long": 1.0}[length]
    for is_extra, alternatives in plot.beats:
        if not is_extra or rng.random() < chance:
            templates.append(rng.choice(alternatives))
    if rng.random() < 0.3:
        templates.append(rng.choice(_alternatives(CLOSINGS)))
    beats = [fill(rng, template, slots) for template in templates]
    slots["theme"] = fill(rng, rng.choice(plot.themes), slots, is_sentence=False)
    slots["title"] = fill(rng, rng.choice(plot.titles), slots)
    text = " ".join(beats)
    if length == "long" and rng.random() < 0.5:
        first, second = sorted(rng.sample(range(2, len(beats) - 1), 2))
        text = "\n\n".join(" ".join(part) for part in (beats[:first], beats[first:second], beats[second:]))
    return Story(text, beats, slots)


def fill(rng: random.Random, template: str, slots: dict[str, str], *, is_sentence: bool = True) -> str:
    """The template with its choices made and its slots filled, "a" or "an" as the next word asks."""
    if "[" in template:
        template = _CHOICE.sub(lambda match: rng.choice(match[1].split("/")), template)
    text = _ARTICLE.sub(r"\1n ", template.format_map(slots))
    return text[0].upper() + text[1:] if is_sentence else text


@cache
def plots() -> list[Plot]:
    """All plots, in the file's order."""
    found = []
    for block in Path(__file__).with_name("plots.txt").read_text(encoding="utf-8").split("\n== ")[1:]:
        name, themes, titles, feelings, *beats = block.strip().split("\n")
        heads = [_split(line.split(":", 1)[1]) for line in (themes, titles, feelings)]
        found.append(Plot(name, *heads, [(beat.startswith("? "), _split(beat.removeprefix("? "))) for beat in beats]))
    return found


def _cast(rng: random.Random, split: Split, plot: Plot, kind: str | None, usual: bool) -> dict[str, str]:
    while True:
        hero = kind or _draw(rng, split, world.KINDS, world.ODD_HEROES, usual)
        place = _draw(rng, split, list(world.PLACES), world.ODD_PLACES, usual)
        if is_held_out(hero, place) == (split == "held-out"):
            break
    friend_kind, other = rng.sample([animal for animal in world.KINDS if animal != hero], 2)
    terrain_name = "strange"
    preposition = "in"
    if place in world.PLACES:
        preposition, terrain_name = world.PLACES[place]
    terrain = world.TERRAINS[terrain_name]
    hero_is_she, friend_is_she = (_is_she(rng, who) for who in (hero, friend_kind))
    name = _name(rng, split, hero_is_she, usual)
    friend = _name(rng, split, friend_is_she, usual)
    while friend == name:
        friend = _name(rng, split, friend_is_she, usual)
    trait = rng.choice(list(world.TRAITS)) if rng.random() < 0.8 else ""
    colour = rng.choice(world.COLOURS) if rng.random() < 0.06 else ""
    place_look = rng.choice(world.PLACE_LOOKS) if rng.random() < 0.25 else ""
    nouns = rng.sample(world.THINGS, 2)
    thing, thing2 = (f"{rng.choice(world.THING_LOOKS)} {noun}" for noun in nouns)
    time = rng.choice(world.PLAIN_TIMES)
    if rng.random() < 0.5:
        time = f"One {rng.choice(world.WEATHERS)} {rng.choice(world.DAY_TIMES)}"
    night = rng.choice(world.NIGHTS)
    detail, detail2 = rng.sample(terrain.details, 2)
    spot, spot2, spot3 = rng.sample(terrain.spots, 3)
    sound = rng.choice(terrain.sounds)
    build = rng.choice(world.BUILDS)
    slots = {
        "plot": plot.name, "feeling": rng.choice(plot.feelings), "name": name, "kind": hero, "place": place,
        "looks": "".join(f"{look} " for look in (trait, colour) if look), "trait": trait, "colour": colour,
        "at": f"{preposition} the {place}", "to": f"to the {place}",
        "home": f"{preposition} a {place_look} {place}" if place_look else f"{preposition} the {place}",
        "friend": friend, "fkind": friend_kind, "other": other, "thing": thing, "thing2": thing2,
        "ftrait": rng.choice(world.FRIEND_TRAITS), "food": rng.choice(world.FOODS), "time": time, "night": night,
        "time_": time[0].lower() + time[1:], "detail": detail, "detail2": detail2, "spot": spot, "spot2": spot2,
        "spot3": spot3, "sound": sound, "sound_": sound[0].upper() + sound[1:], "trap": rng.choice(terrain.traps),
        "build": build, "skill": rng.choice(world.SKILLS),
    }  # fmt: skip
    slots |= _pronouns(hero_is_she, "") | _pronouns(friend_is_she, "f")
    slots |= {key.capitalize(): _title(slots[key]) for key in ("name", "kind", "friend", "fkind", "thing", "place")}
    slots |= {key.capitalize(): _title(slots[key]) for key in ("food", "build", "skill")}
    slots["Home"] = slots["home"][0].upper() + slots["home"][1:]
    return slots


def _draw(rng: random.Random, split: Split, usual_words: list[str], odd_words: list[str], usual: bool) -> str:
    luck = 1.0 if usual else rng.random()
    if luck < 0.04:
        return made_up_word(rng, split)
    return rng.choice(odd_words if luck < 0.14 else usual_words)


def _name(rng: random.Random, split: Split, is_she: bool, usual: bool) -> str:
    if not usual and rng.random() < 0.12:
        return made_up_word(rng, split).capitalize()
    return rng.choice(world.SHE_NAMES if is_she else world.HE_NAMES)


def _is_she(rng: random.Random, kind: str) -> bool:
    return kind in world.SHE or (kind not in world.HE and rng.random() < 0.5)


def _pronouns(is_she: bool, prefix: str) -> dict[str, str]:
    words = ("she", "her", "her", "herself") if is_she else ("he", "him", "his", "himself")
    names = [f"{prefix}{key}" for key in ("he", "him", "his", "himself")]
    small = dict(zip(names, words, strict=True))
    capital = [f"{prefix.upper()}{key}" for key in ("He", "Him", "His", "Himself")]
    return small | {key: word.capitalize() for key, word in zip(capital, words, strict=True)}


def _title(words: str) -> str:
    return " ".join(word[0].upper() + word[1:] for word in words.split())


def _split(line: str) -> list[str]:
    return [alternative.strip() for alternative in line.split(" | ")]


@cache
def _alternatives(text: str) -> list[str]:
    return [" ".join(alternative.split()) for alternative in text.replace("\n", " ").split(" | ")]
