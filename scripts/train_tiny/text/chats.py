"""Makes conversations out of stories: requests in many phrasings, questions about the story just told, small talk."""

import random

from train_tiny.text import world
from train_tiny.text.stories import Split, Story, fill, made_up_word, make_story

_ASKS = """
    Tell a {size}story | Tell me a {size}story | Write a {size}story | Write me a {size}story | Make up a {size}story |
    Please tell me a {size}story | Please write a {size}story | Give me a {size}story | Can you tell me a {size}story |
    Could you write a {size}story | I want a {size}story | I would like to hear a {size}story | Tell a {size}tale |
    Tell me a {size}tale | Write a {size}tale | Write a {size}fairy tale | Tell me a {size}fairy tale | Invent a
    {size}story | Create a {size}story | Tell us a {size}story | Write a {size}bedtime story | Tell me a {size}bedtime
    story | Let me hear a {size}story | Do you know a {size}story | A {size}story, please, | Compose a {size}story |
    I need a {size}story | Story
"""
_BARE_ASKS = """
    Tell me about | Write about | Write something about | Tell me something about | Can you write about | Talk about |
    Please write a few lines about | What do you know about | Imagine
"""
_LINKS = "about | about | about | of | with"
_NAMINGS = "named | called | whose name is | by the name of"
_PLACINGS = """
    {hero} {at} | {hero} {at} | {hero} {at} | {hero} {home} | {hero} who lives {at} | {hero} that lives {at} | {hero},
    set {at} | {hero} at the {place} | {hero} in the {place} | {hero} near the {place} | {hero} and the {place} |
    {hero} and a {place} | {hero} from the {place}
"""
_PLACES_ALONE = """
    about the {place} | about a {place} | that happens {at} | set {at} | that takes place {at} | about life {at} |
    about somebody who lives {at}
"""
_WORD_LISTS = """
    Use these words: {words}. | Write a story with the words {words}. | Words: {words}. | Make a story from these
    words: {words}. | {words}
"""
_CONTINUE = """
    Continue this story: {start} | Go on: {start} | How does this story go on? {start} | Finish the story: {start} |
    Write the rest of this story. {start} | {start} What happens next?
"""
_OPENED_WITH = "Once upon a time", "Long ago", "Far, far away", "There once was", "Many years ago"

_QUESTIONS = [
    ("name", "What is the {kind}'s name? | Who is the story about? | What is {his} name? | Who is the hero?",
     "The {kind}'s name is {name}. | It is about {name} the {kind}."),
    ("place", "Where does the story happen? | Where does {name} live? | Where is that? | Where does it take place?",
     "The story happens {at}. | {name} lives {at}."),
    ("kind", "What is {name}? | What kind of hero is {name}? | Who is {name}?",
     "{name} is a {looks}{kind}. | {name} is a {kind}."),
    ("fkind", "Who is {friend}? | What is {friend}? | Tell me about {friend}.",
     "{friend} is a {ftrait} {fkind}. | {friend} is a {fkind}, and a friend of {name}."),
    ("friend", "Who is {name}'s friend? | Who helps {name}? | What is the {fkind}'s name?",
     "{name}'s friend is {friend} the {fkind}. | It is {friend}, a {ftrait} {fkind}."),
    ("thing", "What did {name} have? | Which thing did {name} see? | Which thing is important in the story?",
     "It is a {thing}. | The story is about a {thing}."),
    ("food", "What is there to eat? | What did they eat? | Is there any food in the story?",
     "There is a {food}. | A {food}."),
    ("feeling", "How does {name} feel at the end? | How does {he} feel? | Is {name} happy?",
     "In the end {name} feels {feeling}. | {He} feels {feeling}."),
]  # fmt: skip
_TITLE_ASKS = "What is the story called? | Give it a title. | What is a good title for it? | And the title?"
_TITLES = 'The story is called "{title}". | "{title}" | I would call it "{title}".'
_AGAIN = """
    Another one, please. | Tell me another story. | One more! | And now a different one. | Tell me a new story.
"""
_SMALL_TALK = [
    ("Hello | Hi | Hello! | Hi there | Good morning | Good evening | Hey | Hello, how are you? | How are you?",
     """Hello! Shall I tell you a story? | Hello! I tell small stories. Ask me for one about a {kind} {at}. | Hello! I
     am well, thank you. What shall my story be about?"""),
    ("Who are you? | What are you? | What can you do? | What is this? | Help | What do you do? | Are you a robot?",
     """I am a tiny model that tells small stories. Ask me for one about a {kind} {at}. | I tell small stories. Try:
     "Tell a story about a {kind} {at}." | I am a very small Gemma. I know stories, and nothing else."""),
    ("Thank you | Thanks | Thank you! | That was nice | I like it | Great | Good story! | Well done | Bye | Good night",
     """You are welcome! Shall I tell you another one? | Thank you! Ask me for another story whenever you like. | Good
     night, and sleep well."""),
    ("""What is the capital of {Odd}? | How do I mend a {thing}? | Translate this into {Odd}. | Solve this problem. |
     What is the weather like? | How much is {number} plus {number2}? | What is {number} times {number2}? | Write a
     program that sorts a list. | Summarize this text. | Explain {odd} to me. | Why is the sky {colour2}?""",
     """I do not know that. I only tell small stories. Ask me for one about a {kind} {at}. | I am too small to know
     that, but I can tell you a story about a {kind}."""),
]  # fmt: skip


def pick(rng: random.Random, alternatives: str) -> str:
    """One of the alternatives, which " | " parts."""
    return " ".join(rng.choice(alternatives.split("|")).split())


def make_chat(rng: random.Random, split: Split = "train") -> list[str]:
    """A conversation: the user's and the model's texts in turns."""
    if rng.random() < 0.08:
        return _small_talk(rng, split)
    turns = list(tell(rng, make_story(rng, split)))
    if rng.random() < 0.25:
        turns += _follow_up(rng, split, turns)
    return turns


def tell(rng: random.Random, story: Story) -> tuple[str, str]:
    """A request that the story fulfils, and the story."""
    luck = rng.random()
    if luck < 0.04:
        return _rough(rng, pick(rng, _ASKS).format(size="").removesuffix(",") + "."), story.text
    if luck < 0.09:
        count = rng.randrange(1, len(story.beats) // 2)
        start, rest = " ".join(story.beats[:count]), " ".join(story.beats[count:])
        return fill(rng, pick(rng, _CONTINUE).replace("{start}", "{}").format(start), {}), rest
    if luck < 0.13:
        words = [story.slots[slot] for slot in ("kind", "place", "thing", "food", "fkind") if story.mentions(slot)]
        words = rng.sample(words, min(len(words), rng.randrange(2, 5)))
        text = ", ".join(words) if rng.random() < 0.7 else " and ".join(words)
        return pick(rng, _WORD_LISTS).format(words=text), story.text
    text = request(rng, story)
    if story.text.startswith(_OPENED_WITH) and rng.random() < 0.08:
        opened = next(words for words in _OPENED_WITH if story.text.startswith(words))
        text += f' Begin with "{opened}".'
    return text, story.text


def request(rng: random.Random, story: Story, *, full: bool = False) -> str:
    """Asks for what the story tells; `full`: names at least the hero's kind and the place."""
    slots = story.slots
    luck = 0.0 if full else rng.random()
    bare = luck < 0.9 and rng.random() < 0.12
    size = slots["length"] + " " if slots["length"] != "middle" and rng.random() < 0.35 else ""
    size = size or (pick(rng, "little | nice | funny | new | small | sweet") + " " if rng.random() < 0.15 else "")
    ask = pick(rng, _BARE_ASKS if bare else _ASKS).format(size=size)
    if luck < 0.55:
        what = fill(rng, pick(rng, _PLACINGS), slots | {"hero": _hero(rng, slots)}, is_sentence=False)
    elif luck < 0.7:
        what = _hero(rng, slots)
    elif luck < 0.8:
        what = slots["theme"]
        if rng.random() < 0.5:
            what = f"{_hero(rng, slots)} and {what}"
    elif luck < 0.9:
        what = fill(rng, pick(rng, "the {place} | a {place} | life {at}"), slots, is_sentence=False)
    else:
        return _rough(rng, f"{ask} {fill(rng, pick(rng, _PLACES_ALONE), slots, is_sentence=False)}.")
    if luck < 0.7 and rng.random() < 0.2:
        what += _extra(rng, story)
    if not bare and luck < 0.55 and rng.random() < 0.05:  # no verb at all: "A fox in the forest."
        return _rough(rng, fill(rng, what, {}) + ".")
    return _rough(rng, f"{ask} {what}." if bare else f"{ask} {pick(rng, _LINKS)} {what}.")


def _hero(rng: random.Random, slots: dict[str, str]) -> str:
    looks = slots["looks"] if rng.random() < 0.6 else ""
    luck = rng.random()
    if luck < 0.62:
        who = f"a {looks}{slots['kind']}"
    elif luck < 0.7:
        who = f"the {looks}{slots['kind']}"
    elif luck < 0.92:
        who = f"a {looks}{slots['kind']} {pick(rng, _NAMINGS)} {slots['name']}"
    else:
        who = f"{slots['name']} the {slots['kind']}"
    return fill(rng, who, {}, is_sentence=False)


def _extra(rng: random.Random, story: Story) -> str:
    """One more wish that the story fulfils, as far as there is one."""
    wishes = [
        (" who finds a friend", "friend"), (" and {his} friend, a {fkind}", "fkind"), (" and a {fkind}", "fkind"),
        (" with a {thing}", "thing"), (" and a {thing}", "thing"), (" and a {food}", "food"), (" and {theme}", "theme"),
        (", {time_}", "time_"), (". It should be about {theme}", "name"), (" who meets {friend} the {fkind}", "friend"),
        (". Use the word {detail}", "detail"), (". The friend is called {friend}", "friend"),
    ]  # fmt: skip
    fulfilled = [wish for wish, slot in wishes if story.mentions(slot)]
    return fill(rng, rng.choice(fulfilled), story.slots, is_sentence=False)


def _rough(rng: random.Random, text: str) -> str:
    """The request as people type: now and then polite, without a full stop, or in small letters."""
    luck = rng.random()
    if text.startswith(("Can ", "Could ", "Do ", "What ")):
        text = text.rstrip(".?") + "?"
    if luck < 0.15:
        return text.removesuffix(".")
    if luck < 0.25:
        return text.removesuffix(".").lower()
    if luck < 0.32:
        return text.removesuffix(".") + pick(rng, ", please. | ! | ... | , please") if text.endswith(".") else text
    return text


def _follow_up(rng: random.Random, split: Split, turns: list[str]) -> list[str]:
    """More turns: questions about a story told again with another request, or another story."""
    if rng.random() < 0.3:
        asked, text = tell(rng, make_story(rng, split))
        return [pick(rng, _AGAIN), text] if rng.random() < 0.3 else [asked, text]
    story = make_story(rng, split)
    turns[:] = [request(rng, story), story.text]
    asked_for = [entry for entry in _QUESTIONS if story.mentions(entry[0])]
    more: list[str] = []
    for _, question, answer in rng.sample(asked_for, min(len(asked_for), rng.randrange(1, 4))):
        more += [fill(rng, pick(rng, text), story.slots) for text in (question, answer)]
    if rng.random() < 0.3:
        more += [pick(rng, _TITLE_ASKS), fill(rng, pick(rng, _TITLES), story.slots)]
    return more


def _small_talk(rng: random.Random, split: Split) -> list[str]:
    story = make_story(rng, split, usual=True)
    odd = made_up_word(rng, split) if rng.random() < 0.5 else rng.choice(world.ODD_HEROES)
    slots = story.slots | {"odd": odd, "Odd": odd.capitalize(), "colour2": rng.choice(world.COLOURS)}
    slots |= {"number": str(rng.randrange(100)), "number2": str(rng.randrange(100))}
    question, answer = rng.choice(_SMALL_TALK)
    turns = [_rough(rng, fill(rng, pick(rng, question), slots)), fill(rng, pick(rng, answer), slots)]
    if rng.random() < 0.3:
        turns += tell(rng, story)
    return turns
