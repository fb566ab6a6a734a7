"""The tokenizer: a Unigram over whole words listed by hand, with letters to fall back on.

It is built, not trained: a Unigram trained on templated captions cuts words at odd
places.  Ids 0, 1 and 2 are pad, end and unknown, as in T5.
"""

import string

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from . import captions

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
WORD_SCORE, PIECE_SCORE, LETTER_SCORE = -5.0, -8.0, -12.0
MARK = "▁"  # stands for the space before a word


def build() -> Tokenizer:
    """A tokenizer that appends `</s>` and never needs more than one token for a caption's word."""
    pieces = [(PAD, 0.0), (END, 0.0), (UNKNOWN, 0.0)]
    words = captions.vocabulary()
    pieces += [(MARK + word, WORD_SCORE) for word in words]
    pieces += [(mark, PIECE_SCORE) for mark in (MARK, *string.punctuation)]
    pieces += [(letter, LETTER_SCORE) for letter in string.digits + string.ascii_lowercase]
    single = {MARK + letter for letter in string.ascii_lowercase} - {piece for piece, _ in pieces}
    pieces += [(piece, LETTER_SCORE) for piece in sorted(single)]

    tokenizer = Tokenizer(Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(MARK, prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(MARK, prepend_scheme="always")
    tokenizer.add_special_tokens([PAD, END, UNKNOWN])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, 1)]
    )
    return tokenizer
