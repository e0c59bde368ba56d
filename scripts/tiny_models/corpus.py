"""The text from which a tiny model's tokenizer learns its words: sentences put together from word lists."""

import random
from collections.abc import Iterator


def _words(text: str) -> list[str]:
    return text.split()


ADJECTIVES = _words("""
    amber ancient brave bright broken calm clever cold crooked dark deep distant dusty eager early empty
    faint fierce foggy gentle golden green grey happy heavy hidden hollow honest hungry kind late lazy
    light little lonely long loud lucky narrow new odd old pale patient plain polite proud quick quiet
    rare red rich round rusty salty sharp short silent silver simple sleepy slow small soft steep still
    strange strong sudden sweet tall thin tiny tired warm wet white wide wild wise wooden wrong yellow
    young
""")

NOUNS = _words("""
    anchor apple autumn baker bell bird boat book bottle bridge brother candle captain castle cat chapter
    child city clock cloud coast corner dancer dawn desert doctor dog door dragon dream engine evening
    farmer father feather field fire fisher flower forest fox friend garden gate ghost girl glass harbour
    hat hill horse house hunter island journey key king kitchen lake lamp lantern letter library light
    lion map market meadow memory mirror moon morning mother mountain music night ocean orchard owl
    painter palace paper path pirate planet pocket poet pond prince puzzle queen question rabbit rain
    raven ribbon river road robot sailor school sea secret shadow ship shore singer sister sky snow song
    spring star station stone storm story stranger stream street summer sun table teacher thief thunder
    tide tower town train traveller tree valley village violin voice wall watch water wave whale wheel
    whisper wind window winter witch wolf wood word world writer year
""")

VERBS = _words("""
    answer ask bake borrow call carry catch chase clean climb close collect count cover cross dance
    discover draw dream drift enter explain fear find finish fix follow forget gather greet guard hear
    help hide hold hope hunt join keep knock laugh lead learn leave lift listen lock look lose love mend
    miss open paint pass plant play point promise pull push reach read remember rest return ring rush sail
    sing sleep smile speak stand stay study talk tell thank touch trade turn visit wait walk wander want
    wash watch whisper wish wonder work write
""")

LINKS = _words("""
    about above across after against along among around behind below beside beyond from inside near over
    past through toward under until without
""")

STARTS = _words("""
    Again Always At Because Before But Every Here How If In Later Maybe Never No Nobody Now Often On Once
    One Only Perhaps She He They We You I It Its Some Soon Sometimes That The Then There This Today
    Tomorrow What When Where While Who Why Yes Yesterday
""")

SMALL = _words("""
    a an and are as at be been but by can could did do does for had has have he her his i if in is it its
    just may me more most must my no not now of on one or our she so some than that the their them then
    there they this to too two up us very was we were what when where which who will with would you your
""")

JSON_WORDS = _words("""
    name title age city mood score count items tags text true false null chapter genre hero
""")


def sentences(count: int, *, seed: int = 7) -> Iterator[str]:
    """Yields `count` lines: plain sentences, some dialogue, some numbers and some JSON."""
    rng = random.Random(seed)
    for number in range(count):
        adjective, other = rng.choice(ADJECTIVES), rng.choice(ADJECTIVES)
        noun, second = rng.choice(NOUNS), rng.choice(NOUNS)
        verb, link, small = rng.choice(VERBS), rng.choice(LINKS), " ".join(rng.sample(SMALL, 4))
        start = rng.choice(STARTS)
        match number % 6:
            case 0:
                yield f"{start} the {adjective} {noun} would {verb} {link} the {other} {second}."
            case 1:
                yield f'"{start} {verb} the {noun}," said the {adjective} {second}; {small}?'
            case 2:
                yield f"{start} {small} {noun}s and {second}s {verb}ing {link} a {adjective} {noun}!"
            case 3:
                key, value = rng.choice(JSON_WORDS), rng.randrange(1000)
                yield f'{{"{key}": {value}, "{rng.choice(JSON_WORDS)}": ["{noun}", "{second}"]}}'
            case 4:
                yield f"{start} {verb}ed {rng.randrange(100)} {adjective} {noun}s: {small} (the {second})."
            case _:
                yield f"The {noun}'s {second} {verb}s {link} {adjective}, {other} {noun}s - {small}..."
