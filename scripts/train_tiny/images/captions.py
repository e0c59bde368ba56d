"""Puts scenes into words: in many ways, and mostly not everything."""

import random

from train_tiny.images.scene import Scene, Thing
from train_tiny.images.shapes import SHAPES

_NAMES = {
    "house": ("house", "house", "cottage", "home", "hut"),
    "boat": ("boat", "boat", "ship", "sailboat", "sailing boat"),
    "tree": ("tree", "tree", "apple tree"),
    "pine": ("pine", "pine tree", "fir", "fir tree", "christmas tree"),
    "cat": ("cat", "cat", "kitten"),
    "rabbit": ("rabbit", "rabbit", "bunny", "hare"),
    "bird": ("bird",),
    "whale": ("whale",),
    "balloon": ("balloon", "balloon", "hot-air balloon", "hot air balloon"),
    "car": ("car", "car", "automobile"),
    "lighthouse": ("lighthouse", "lighthouse", "tower"),
    "flower": ("flower", "flower", "blossom"),
}
_COLOURS = {"purple": ("purple", "purple", "violet"), "white": ("white",), "red": ("red", "red", "scarlet")}
_SKIES = {
    "blue": ("at noon", "by day", "on a clear day", "in the daytime"),
    "orange": ("at sunset", "at sunset", "at sundown"),
    "pink": ("at dawn", "at sunrise", "in the early morning"),
    "purple": ("at dusk", "at twilight", "late in the evening"),
    "grey": ("on a grey day", "on a gloomy day", "on a dull day"),
    "dark": ("at night", "at night", "by night", "at midnight"),
}
_SKY_NAMES = {"grey": ("grey", "grey", "gray"), "dark": ("dark", "black"), "purple": ("purple", "purple", "violet")}
_PLACES = {
    "sea": ("on the sea", "on the ocean", "on the water", "at sea"),
    "meadow": ("in a meadow", "on the grass", "in a green field", "on a meadow"),
    "sand": ("on the beach", "in the desert", "on the sand"),
    "snow": ("in the snow", "on the snow", "in a snowy field", "in winter"),
}
_ABOVE = {
    "sea": ("over the sea", "above the ocean", "over the water"),
    "meadow": ("over a meadow", "above the grass", "over a green field"),
    "sand": ("over the beach", "above the desert", "over the sand"),
    "snow": ("over the snow", "above a snowy field"),
}
_BACKDROPS = {
    "hills": ("hills in the distance", "green hills", "hills"),
    "mountains": ("mountains in the distance", "mountains", "snowy mountains"),
}
_LIGHTS = {
    "sun": ("the sun", "a yellow sun", "the sun in the sky"),
    "moon": ("the moon", "a crescent moon"),
    "stars": ("stars", "many stars"),
}
_WEATHERS = {
    "clouds": ("clouds", "white clouds", "some clouds"),
    "rain": ("rain", "falling rain"),
    "snow": ("falling snow", "snowflakes"),
}
_BEGINNINGS = ("a picture of", "a painting of", "a drawing of", "an illustration of", "a simple scene with", "there is")
_STYLES = ("watercolour", "oil painting", "children's book", "flat colours", "highly detailed", "beautiful", "cartoon")
_PLACED = {"left": 0.8, "middle": 0.15, "right": 0.8}
"""How often a place is said: what is not said is mostly in the middle, and of the usual size."""
_COUNTS = {2: "two", 3: "three"}


def describe(scene: Scene, rng: random.Random) -> str:
    """A caption as people write them: a sentence or a list of words, with more or less of what is there."""
    words = _tags(scene, rng) if rng.random() < 0.15 else _sentence(scene, rng, fullness=rng.uniform(0.2, 1.0))
    if rng.random() < 0.10:
        words += f", {rng.choice(_STYLES)}"
    return words


def describe_fully(scene: Scene, rng: random.Random) -> str:
    """A caption that names at least the object, its colour and the sky's colour or its time of day."""
    return _sentence(scene, rng, fullness=1.0)


def _sentence(scene: Scene, rng: random.Random, fullness: float) -> str:
    def says() -> bool:
        return rng.random() < fullness

    words = _company(scene, rng, coloured=says() or says(), sized=rng.random() < 0.8)
    if rng.random() < 0.15:
        words = f"{rng.choice(_BEGINNINGS)} {words}"
    if scene.companion is None and scene.count == 1 and rng.random() < _PLACED[scene.position]:
        words += " in the middle" if scene.position == "middle" else f" on the {scene.position}"
    place = _place(scene, rng) if says() else None
    sky = _sky(scene, rng) if says() or says() else None
    words = " ".join([words, *rng.sample([part for part in (place, sky) if part], k=bool(place) + bool(sky))])
    besides = [phrase for phrase in _besides(scene, rng) if says()]
    if besides:
        words += f"{rng.choice((' with', ', with', ' and', ','))} {' and '.join(besides)}"
    return words


def _tags(scene: Scene, rng: random.Random) -> str:
    """A few words with commas between them, as prompts, and above all negative prompts, often are."""
    things = _company(scene, rng, coloured=rng.random() < 0.8, sized=False, article=False)
    others = [_sky(scene, rng, bare=True), rng.choice(_PLACES[scene.ground]).split()[-1], *_besides(scene, rng)]
    kept = [words for words in (things, *others) if rng.random() < 0.55]
    return ", ".join(kept or [rng.choice((things, *others))])


def _company(scene: Scene, rng: random.Random, *, coloured: bool, sized: bool, article: bool = True) -> str:
    size = scene.size if sized and scene.size != "usual" and scene.count == 1 and not scene.companion else ""
    if size == "big":
        size = rng.choice(("big", "large"))
    if scene.count > 1:
        return f"{_COUNTS[scene.count]} {_name(scene.main, rng, coloured, plural=True)}"
    words = " ".join(filter(None, (size, _name(scene.main, rng, coloured))))
    words = _with_article(words) if article else words
    if scene.companion:
        other = _name(scene.companion, rng, coloured)
        words += f" and {_with_article(other) if article else other}"
    return words


def _name(thing: Thing, rng: random.Random, coloured: bool, plural: bool = False) -> str:
    name = rng.choice(_NAMES[thing.kind])
    if plural:
        name += "es" if name.endswith("x") else "s"
        name = name.replace("bunnys", "bunnies")
    return f"{rng.choice(_COLOURS.get(thing.colour, (thing.colour,)))} {name}" if coloured else name


def _place(scene: Scene, rng: random.Random) -> str:
    return rng.choice((_ABOVE if SHAPES[scene.main.kind].place == "sky" else _PLACES)[scene.ground])


def _sky(scene: Scene, rng: random.Random, bare: bool = False) -> str:
    if scene.sky in _SKIES and rng.random() < 0.5:
        words = rng.choice(_SKIES[scene.sky])
        return words.split()[-1] if bare and words.split()[-1] != "day" else words
    name = rng.choice(_SKY_NAMES.get(scene.sky, (scene.sky,)))
    if bare:
        return f"{name} sky"
    before = "in" if SHAPES[scene.main.kind].place == "sky" and rng.random() < 0.5 else "under"
    return f"{before} {_with_article(name)} sky"


def _besides(scene: Scene, rng: random.Random) -> list[str]:
    parts = ((_BACKDROPS, scene.backdrop), (_LIGHTS, scene.light), (_WEATHERS, scene.weather))
    return [rng.choice(phrases[name]) for phrases, name in parts if name]


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
