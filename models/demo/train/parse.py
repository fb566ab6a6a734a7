"""Reads a caption in the words of `captions`: what a judge compares a clip with."""

import re

from .captions import COLOUR_WORDS, DIRECTIONS, OWN_VERBS, SHAPE_WORDS, SIZE_WORDS


def parse(text: str) -> dict[str, str | None]:
    """What a caption in these words names: colour, background, shape, size and motion.

    The shape's colour stands right before its noun; any other colour is the
    background's.  A motion is the longest known phrase.  What is not said is None.
    """
    text = " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower()).split())
    colours, shapes, sizes = (_phrases(table) for table in (COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS))
    motions = _phrases({motion: tuple(p for pair in pairs for p in pair) for motion, pairs in OWN_VERBS.items()})
    for motion, phrases in DIRECTIONS.items():
        motions.update((phrase, motion) for phrase in phrases)

    found: dict[str, str | None] = dict.fromkeys(("colour", "background", "shape", "size", "motion"))
    noun = _find(text, shapes)
    if noun:
        found["shape"] = shapes[noun.group()]
        before = text[: noun.start()].rstrip()
        for phrase in sorted(colours, key=len, reverse=True):
            if re.search(rf"\b{phrase}$", before):
                found["colour"] = colours[phrase]
                text = before[: -len(phrase)] + text[noun.end() :]
                break
    behind, size, motion = _find(text, colours), _find(text, sizes), _find(text, motions)
    found["background"] = colours[behind.group()] if behind else None
    found["size"] = sizes[size.group()] if size else None
    found["motion"] = motions[motion.group()] if motion else None
    return found


def _phrases(table: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {phrase: name for name, phrases in table.items() for phrase in phrases}


def _find(text: str, phrases: dict[str, str]) -> re.Match | None:
    """The longest of the phrases in the text, as whole words."""
    longest_first = sorted(phrases, key=len, reverse=True)
    matches = (re.search(rf"\b{phrase}\b", text) for phrase in longest_first)
    return next((match for match in matches if match), None)
