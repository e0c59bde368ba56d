"""What the stories are about: who there is, where they live, what they have and what the air is like."""

from dataclasses import dataclass


def words(text: str) -> list[str]:
    """The words of a text in a list."""
    return text.split()


def _phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split(",")]


ANIMALS = words("""
    ant badger bat bear beaver bee beetle butterfly camel cat cow crab crow deer dog donkey duck elephant fox frog
    giraffe goat goose hamster hare hedgehog hen horse kitten lamb lion lizard mole monkey mouse otter owl parrot
    penguin pig pony puppy rabbit raccoon rat raven robin seal sheep snail sparrow spider squirrel swan tiger toad
    turtle weasel wolf zebra
""")
PEOPLE = words("""
    baker boy child clown cook dancer doctor farmer fisherman gardener girl hunter king knight nurse painter pilot
    pirate postman prince princess queen sailor shepherd shoemaker singer smith soldier tailor teacher
""")
CREATURES = words("dragon dwarf elf fairy ghost giant goblin mermaid monster robot snowman troll unicorn witch wizard")
KINDS = ANIMALS + PEOPLE + CREATURES
SHE = frozenset(words("cow hen girl queen princess witch mermaid fairy"))
HE = frozenset(words("boy king prince wizard fisherman postman snowman pirate knight smith"))

# What nobody expects to be the hero of a story or its place; they teach the model to take up any word it is given.
ODD_HEROES = words("""
    acorn anchor apple balloon basket bell boot bottle broom brush bucket button candle carrot chair clock cloud coat
    coin comet cup drum feather flag flute fork glove guitar hammer hat kettle key lamp lantern leaf lemon letter
    moon mushroom needle onion pear pebble pencil piano pillow potato pumpkin raindrop ribbon shadow shell ship shoe
    snowflake sock spoon star stone suitcase table teapot train tree trumpet umbrella violin wheel whistle window
    astronaut chef detective dinosaur engineer explorer firefighter inventor librarian magician musician ninja octopus
    panda peacock pharaoh poet scientist shark snake superhero vampire viking walrus whale
""")
ODD_PLACES = _phrases("""
    airport, bathtub, bus, closet, crater, dream, factory, fishbowl, fridge, galaxy, hospital, hotel, laboratory,
    mailbox, maze, mirror, nursery, office, oven, pocket, puddle, pyramid, rocket, shop, spaceship, stadium, submarine,
    supermarket, teacup, tent, toy box, treehouse, tunnel, volcano, zoo, bookshop, playground, restaurant, igloo
""")

SHE_NAMES = words("""
    Ada Amy Anna Bella Clara Daisy Elsa Emma Flora Greta Hazel Holly Ida Iris Ivy Jane Kate Lily Lina Lola Lucy Luna
    Mabel Maya Mia Milly Mina Molly Nelly Nina Nora Olive Pearl Penny Poppy Rosa Rosie Ruby Sally Sara Tilly Tina
    Vera Willow Zoe
""")
HE_NAMES = words("""
    Alfie Arlo Barney Ben Benny Bruno Carl Charlie Dan Edgar Felix Finn Fred George Gus Hugo Jack Jasper Jonas Kai
    Leo Linus Louis Max Milo Ned Nico Oliver Oscar Otto Paul Pip Rufus Sam Sid Simon Teddy Theo Tim Toby Tom Victor
    Walter Will
""")

TRAITS = {
    "brave": "{He} was never the first to run away. | Nothing could make {him} turn back.",
    "shy": "{He} spoke so softly that few had ever heard {his} voice. | {He} liked to stand behind doors.",
    "curious": "{He} asked a hundred questions a day. | {He} wanted to know what was behind every door.",
    "kind": "Whoever needed help could come to {him}. | {He} had a good word for everybody.",
    "clever": "{He} could solve every riddle. | When others shouted, {he} thought.",
    "lazy": "{He} liked nothing more than to sleep until noon. | {He} never did today what could wait until tomorrow.",
    "proud": "{He} looked at {himself} in every pool of water. | {He} liked to hear how wonderful {he} was.",
    "gentle": "{He} would not have hurt a fly. | {He} walked so softly that no leaf moved.",
    "lonely": "{He} had nobody to talk to. | {His} house was very quiet.",
    "cheerful": "{He} sang from morning to night. | {He} laughed even when it rained.",
    "clumsy": "{He} fell over everything that lay in {his} way. | Wherever {he} went, something fell down.",
    "patient": "{He} could wait longer than anybody else. | {He} never hurried.",
    "stubborn": "When {he} said no, it meant no. | {He} never changed {his} mind.",
    "quiet": "{He} listened more than {he} spoke. | {He} liked the early hours, when nobody else was awake.",
    "sleepy": "{He} yawned all day long. | {He} could fall asleep on one leg.",
    "little": "{He} was so small that people often did not see {him}. | {He} wished to be as tall as a tree.",
    "old": "{He} had seen many winters. | {He} knew many stories.",
    "young": "{He} had never been far from home. | Everything was new to {him}.",
    "poor": "{He} owned nothing but {his} coat. | {He} had little, but {he} gave much.",
    "merry": "{He} danced even on the way to bed. | {He} knew a joke for every day of the year.",
    "wise": "From far away they came to ask {him} for advice. | {He} thought twice before {he} spoke once.",
    "grumpy": "{He} complained about the weather every day. | {He} did not like mornings.",
    "hungry": "{He} always thought about the next meal. | {He} could eat three dinners.",
    "tiny": "{He} could sleep in a teacup. | {He} was no bigger than a thumb.",
    "friendly": "{He} greeted everybody {he} met. | {His} door was always open.",
    "careful": "{He} looked twice before every step. | {He} never forgot {his} umbrella.",
    "wild": "{He} ran faster than the wind. | Nobody could make {him} sit still.",
    "silly": "{He} wore {his} hat upside down. | {He} made everybody laugh.",
    "dreamy": "{He} often forgot where {he} was going. | {He} saw pictures in every cloud.",
    "honest": "{He} always said what {he} thought. | {He} never told a lie.",
}  # fmt: skip
FRIEND_TRAITS = [trait for trait in TRAITS if trait not in ("lonely", "honest")]

COLOURS = words("red blue green yellow white silver golden purple brown black orange pink")
THING_LOOKS = [*COLOURS, *words("old little wooden shiny striped")]
THINGS = _phrases("""
    bell, book, box, button, coin, compass, cup, doll, drum, feather, flute, hat, kite, key, lamp, marble, mirror,
    necklace, paintbrush, ring, scarf, shell, spoon, stone, toy boat, trumpet, umbrella, watch, whistle, wooden horse
""")
FOODS = _phrases("""
    honey cake, apple pie, pot of soup, loaf of bread, bowl of berries, bag of nuts, jar of honey, plum cake, pancake,
    basket of pears, big cheese, bowl of porridge, carrot cake, cherry pie, box of biscuits, pumpkin pie
""")
BUILDS = words("boat bridge cart house kite raft sledge swing tower windmill treehouse ladder")
PLACE_LOOKS = words("snowy quiet dark great hidden sunny green misty old faraway wide small windy lonely magic")
SKILLS = _phrases("swim, dance, sing, whistle, juggle, skate, read, paint, cook, play the flute, climb, write, ski")
MOODS = words("happy sad calm angry proud glad curious excited sleepy lonely cheerful nervous hopeful grumpy")
LIKES = _phrases("""
    apples, books, cake, clouds, cold water, dancing, flowers, games, honey, jokes, maps, music, old songs, rain,
    riddles, snow, stars, stories, sunshine, swimming, warm bread, long walks, painting, puzzles
""")

WEATHERS = words("bright cold foggy windy rainy quiet warm sunny grey stormy cloudy clear")
DAY_TIMES = _phrases("""
    morning, afternoon, evening, spring morning, summer day, autumn day, winter morning, summer evening, autumn evening
""")
NIGHTS = _phrases(
    "One dark night, One clear night, One windy night, One winter night, One summer night, Late one night"
)
PLAIN_TIMES = _phrases("One day, One morning, One evening, One afternoon")


@dataclass(frozen=True)
class Terrain:
    """What a kind of place has: things to see (plural), spots to search, what one hears, and where one gets stuck."""

    details: list[str]
    spots: list[str]
    sounds: list[str]
    traps: list[str]


TERRAINS = {
    "woods": Terrain(
        _phrases("tall trees, ferns, soft moss, mushrooms, old oaks, birches, fallen leaves, wild berries"),
        _phrases("""under a fallen log, behind a fern, in a hollow tree, beside a mossy stone, under a heap of leaves,
            among the roots of an oak, in the bushes, under a mushroom, beside a small stream, on a tree stump"""),
        _phrases("the wind in the leaves, the call of an owl, the song of a bird, a woodpecker at work"),
        _phrases("in a thorn bush, between two roots, in a deep hole, under a fallen branch"),
    ),
    "fields": Terrain(
        _phrases("daisies, tall grasses, apple trees, poppies, haystacks, sunflowers, wild roses, wooden fences"),
        _phrases("""in the tall grass, under a hedge, behind a haystack, beside the well, under an apple tree,
            among the flowers, beside the gate, behind a wooden fence, in a flower pot, under a wheelbarrow"""),
        _phrases("the hum of the bees, the song of a lark, the wind in the grass, a bell far away"),
        _phrases("in a hedge, under a fence, in a deep ditch, in the old well"),
    ),
    "water": Terrain(
        _phrases("reeds, water lilies, smooth stones, willows, wet leaves, wooden posts, little boats, white pebbles"),
        _phrases("""among the reeds, under a willow, on a flat stone, behind the little boat, under the wooden bridge,
            in the wet grass, beside a water lily, in the soft mud, behind a big rock, under an old net"""),
        _phrases("the splash of a fish, the song of the frogs, the murmur of the water, the wind in the reeds"),
        _phrases("in the deep mud, in an old net, between two rocks, among the reeds"),
    ),
    "coast": Terrain(
        _phrases(
            "white sails, sea shells, sand hills, fishing boats, grey rocks, fishing nets, old anchors, wooden barrels"
        ),
        _phrases("""behind a rock, under an old boat, in the warm sand, beside a pile of shells, in a wooden barrel,
            among the seaweed, behind the fishing nets, under a sail, beside the anchor, on a wooden box"""),
        _phrases("the cry of the gulls, the song of the waves, the wind in the sails, a horn in the fog"),
        _phrases("in a fishing net, between two rocks, in the wet sand, under an old boat"),
    ),
    "heights": Terrain(
        _phrases("grey rocks, snowy peaks, steep paths, pine trees, little blue flowers, round stones, deep cracks"),
        _phrases("""behind a rock, under a pine tree, in a small cave, beside the steep path, on a narrow ledge,
            under a heap of stones, in the snow, beside a cold spring, behind a waterfall, among the blue flowers"""),
        _phrases("the cry of an eagle, the wind between the rocks, the echo of a bell, falling stones far away"),
        _phrases("between two rocks, on a narrow ledge, in the deep snow, in a crack in the stone"),
    ),
    "town": Terrain(
        _phrases("red roofs, narrow streets, lamps, shop windows, old walls, green doors, open doors, chimneys"),
        _phrases("""behind the fountain, under a bench, beside the bakery, in an empty barrel, on the old wall,
            under a market stall, behind a cart, in a doorway, on the roof, beside the town clock"""),
        _phrases("the ringing of the bells, the wheels of a cart, music from a window, the voices of the people"),
        _phrases("under a cart, in a chimney, behind an iron gate, in an empty barrel"),
    ),
    "house": Terrain(
        _phrases("wooden beams, old pictures, candles, long curtains, shelves, dusty boxes, soft chairs, mirrors"),
        _phrases("""under the table, behind the curtain, on the top shelf, in an old chest, beside the fire,
            under the stairs, behind the door, in a dusty corner, under a carpet, on the window sill"""),
        _phrases("the ticking of a clock, the rain on the roof, the crackle of the fire, steps on the stairs"),
        _phrases("behind a heavy door, in an old chest, under a shelf, in the chimney"),
    ),
    "strange": Terrain(
        _phrases("round stones, strange lights, deep shadows, silver dust, long cracks, bright stars, crooked paths"),
        _phrases("""behind a round stone, in a deep crack, under a flat rock, beside a small pool, in the silver dust,
            in a dark corner, behind a crooked pillar, at the edge of a hole, beneath an arch, on a round hill"""),
        _phrases("the hum of the silence, the wind in the cracks, a drip of water, a whisper far away"),
        _phrases("in a deep crack, between two stones, in the soft dust, at the bottom of a hole"),
    ),
}

# Place: how one is there, and its terrain.
PLACES = {
    "forest": ("in", "woods"), "wood": ("in", "woods"), "jungle": ("in", "woods"), "pine forest": ("in", "woods"),
    "dark forest": ("in", "woods"), "garden": ("in", "fields"), "meadow": ("in", "fields"), "orchard": ("in", "fields"),
    "field": ("in", "fields"), "farm": ("on", "fields"), "park": ("in", "fields"), "vineyard": ("in", "fields"),
    "barn": ("in", "fields"), "valley": ("in", "fields"), "lake": ("at", "water"), "river": ("by", "water"),
    "pond": ("by", "water"), "swamp": ("in", "water"), "stream": ("by", "water"), "waterfall": ("by", "water"),
    "bridge": ("under", "water"), "sea": ("by", "coast"), "ocean": ("by", "coast"), "beach": ("on", "coast"),
    "island": ("on", "coast"), "harbour": ("in", "coast"), "lighthouse": ("in", "coast"), "ship": ("on", "coast"),
    "bay": ("in", "coast"), "mountain": ("on", "heights"), "hill": ("on", "heights"), "cliff": ("on", "heights"),
    "glacier": ("on", "heights"), "canyon": ("in", "heights"), "village": ("in", "town"), "city": ("in", "town"),
    "town": ("in", "town"), "market": ("at", "town"), "station": ("at", "town"), "theatre": ("in", "town"),
    "circus": ("at", "town"), "school": ("at", "house"), "library": ("in", "house"), "castle": ("in", "house"),
    "palace": ("in", "house"), "tower": ("in", "house"), "cottage": ("in", "house"), "bakery": ("in", "house"),
    "kitchen": ("in", "house"), "attic": ("in", "house"), "mill": ("in", "house"), "cellar": ("in", "house"),
    "museum": ("in", "house"), "cave": ("in", "strange"), "desert": ("in", "strange"), "moon": ("on", "strange"),
    "temple": ("in", "strange"), "mine": ("in", "strange"),
}  # fmt: skip
