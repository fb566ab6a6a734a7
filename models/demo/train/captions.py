"""Captions for clips: templates and synonyms, lower case as caption cleaning leaves them."""

import numpy as np

from .clips import ClipSpec

ARTICLES = ("a", "the", "one")
COLOUR_WORDS = {
    "red": ("red",) * 4 + ("crimson", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow",) * 4 + ("golden",),
    "green": ("green",),
    "cyan": ("cyan",) * 4 + ("turquoise", "aqua", "light blue"),
    "blue": ("blue",) * 4 + ("dark blue",),
    "purple": ("purple",) * 3 + ("violet",),
    "white": ("white",),
    "black": ("black",),
    "gray": ("gray", "gray", "grey"),
    "pink": ("pink",),
}
COLOUR_PREFIXES = ("bright", "plain", "solid", "flat")
SHAPE_WORDS = {
    "circle": ("circle", "circle", "circle", "disc", "disk", "ball", "dot", "round shape"),
    "square": ("square", "square", "square", "box", "block", "cube", "square shape"),
    "triangle": ("triangle", "triangle", "triangle", "pyramid", "wedge", "triangle shape", "triangular shape"),
}
SIZE_WORDS = {
    "small": ("small", "small", "little", "tiny"),
    "large": ("large", "big", "big", "huge"),
}

# Verbs as (present, participle); the motion follows.
MOVE_VERBS = (
    ("moves", "moving"), ("moves", "moving"), ("moves", "moving"), ("slides", "sliding"),
    ("slides", "sliding"), ("goes", "going"), ("drifts", "drifting"), ("glides", "gliding"),
    ("travels", "travelling"), ("travels", "traveling"), ("flies", "flying"), ("floats", "floating"),
    ("rolls", "rolling"), ("runs", "running"), ("passes", "passing"), ("crosses", "crossing"),
)
DIRECTIONS = {
    "right": (
        "left to right", "from left to right", "from left to right", "from the left to the right",
        "right", "to the right", "to the right", "rightward", "rightwards", "toward the right",
        "towards the right", "from the left side to the right side",
    ),
    "left": (
        "right to left", "from right to left", "from right to left", "from the right to the left",
        "left", "to the left", "to the left", "leftward", "leftwards", "toward the left",
        "towards the left", "from the right side to the left side",
    ),
    "up": (
        "up", "up", "upward", "upwards", "to the top", "bottom to top", "from bottom to top",
        "from the bottom to the top", "towards the top",
    ),
    "down": (
        "down", "down", "downward", "downwards", "to the bottom", "top to bottom", "from top to bottom",
        "from the top to the bottom", "towards the bottom",
    ),
}
# Verbs that name the motion by themselves.
OWN_VERBS = {
    "up": (("rises", "rising"), ("rises", "rising"), ("climbs", "climbing"), ("ascends", "ascending"),
           ("rises up", "rising up")),
    "down": (("falls", "falling"), ("falls", "falling"), ("drops", "dropping"), ("sinks", "sinking"),
             ("descends", "descending"), ("falls down", "falling down")),
    "grow": (("grows", "growing"), ("grows", "growing"), ("gets bigger", "getting bigger"),
             ("gets larger", "getting larger"), ("expands", "expanding"), ("becomes bigger", "becoming bigger"),
             ("becomes larger", "becoming larger"), ("increases in size", "increasing in size"),
             ("inflates", "inflating"), ("grows larger", "growing larger"), ("grows bigger", "growing bigger")),
    "shrink": (("shrinks", "shrinking"), ("shrinks", "shrinking"), ("gets smaller", "getting smaller"),
               ("becomes smaller", "becoming smaller"), ("contracts", "contracting"),
               ("decreases in size", "decreasing in size"), ("deflates", "deflating")),
    "still": (("stands still", "standing still"), ("stands still", "standing still"),
              ("stays still", "staying still"), ("is still", "being still"), ("is not moving", "not moving"),
              ("does not move", "not moving"), ("rests", "resting"), ("is stationary", "stationary"),
              ("is static", "static"), ("stays in place", "staying in place"), ("holds still", "holding still"),
              ("is motionless", "motionless"), ("remains still", "remaining still")),
}
ADVERBS = ("slowly", "smoothly", "steadily", "quickly")
PLACES = (
    "on a {b} background", "on a {b} background", "on a {b} background", "over a {b} background",
    "over a {b} background", "against a {b} background", "in front of a {b} background",
    "with a {b} background", "on {b}", "over {b}", "on the {b} background", "across a {b} background",
)
TEMPLATES = (
    "{thing} {doing} {place}", "{thing} {doing} {place}", "{thing} {doing} {place}", "{thing} {does} {place}",
    "{thing} {does} {place}", "{thing} is {doing} {place}", "{place}, {thing} is {doing}",
    "{place}, {thing} {does}", "{place} {thing} {does}", "{place}, {thing} {doing}",
    "{thing} {doing}, {b} background", "{thing} {does}, {b} background", "{b} background, {thing} {doing}",
    "{b} background: {thing} {does}", "a video of {thing} {doing} {place}", "a clip of {thing} {doing} {place}",
    "there is {thing} {doing} {place}", "{thing} {place} {does}", "{thing} {place}, {doing}",
    "{thing} {place} is {doing}", "{thing}, {doing}, {place}",
)


def choose(rng: np.random.Generator, options):
    return options[rng.integers(len(options))]


def motion_words(rng: np.random.Generator, motion: str) -> tuple[str, str]:
    """(what it does, what it is doing): "moves up", "moving up"."""
    own = OWN_VERBS.get(motion, ())
    if motion not in DIRECTIONS or (own and rng.random() < 0.5):
        does, doing = choose(rng, own)
    else:
        verb = choose(rng, MOVE_VERBS)
        direction = choose(rng, DIRECTIONS[motion])
        does, doing = f"{verb[0]} {direction}", f"{verb[1]} {direction}"
    if motion != "still" and rng.random() < 0.06:
        adverb = choose(rng, ADVERBS)
        does, doing = f"{adverb} {does}", f"{adverb} {doing}"
    return does, doing


def colour_words(rng: np.random.Generator, colour: str) -> str:
    word = choose(rng, COLOUR_WORDS[colour])
    return f"{choose(rng, COLOUR_PREFIXES)} {word}" if rng.random() < 0.04 else word


def caption(rng: np.random.Generator, spec: ClipSpec) -> tuple[str, bool]:
    """A random caption of `spec`, and whether it names the size."""
    sized = rng.random() < 0.65
    words = [choose(rng, SIZE_WORDS[spec.size])] if sized else []
    words += [colour_words(rng, spec.colour), choose(rng, SHAPE_WORDS[spec.shape])]
    if rng.random() < 0.92:
        article = "a" if rng.random() < 0.85 else choose(rng, ARTICLES)
        vowel = words[0][0] in "aeiou"
        words.insert(0, "an" if article == "a" and vowel and rng.random() < 0.9 else article)
    does, doing = motion_words(rng, spec.motion)
    background = colour_words(rng, spec.background)
    place = choose(rng, PLACES).format(b=background)
    if background[0] in "aeiou":
        place = place.replace(" a ", " an ")
    text = choose(rng, TEMPLATES).format(thing=" ".join(words), does=does, doing=doing, place=place, b=background)
    if rng.random() < 0.25:
        text += "."
    if rng.random() < 0.04:
        text += f" aesthetic score: {rng.integers(45, 75) / 10:.1f}."
    return text, sized


def vocabulary() -> list[str]:
    """Every word that a caption can contain, sorted."""
    texts = [*ARTICLES, "an is video clip of there aesthetic motion score camera background shape colour color"]
    texts += [*COLOUR_PREFIXES, *ADVERBS, *PLACES, *TEMPLATES]
    for group in (COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS, DIRECTIONS):
        texts += [word for words in group.values() for word in words]
    texts += [word for pair in MOVE_VERBS for word in pair]
    texts += [word for pairs in OWN_VERBS.values() for pair in pairs for word in pair]
    words = {word.strip(",:.") for text in texts for word in text.split()}
    return sorted(word for word in words if word and "{" not in word)
