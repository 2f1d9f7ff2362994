"""Division of text into words, by Unicode's rules (UAX 29), and its inverse.

A single space between two words is not a token: the decoder restores it. Every other space is a token, such as the
space in ``, "``. Two words are adjacent without a space only in scripts written without spaces, such as Chinese and
Thai, so the decoder knows where a space was.
"""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, decoders, normalizers, pre_tokenizers

UNSPACED = (
    r"\p{Ideographic}\p{Hiragana}\p{Katakana}\x{3031}-\x{3035}\x{30FC}\x{FF70}"
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}\p{Ahom}"
)
"""The characters of scripts without spaces between words, for a character class of a regular expression."""
SPACED_LETTER = rf"[[\p{{Alphabetic}}\p{{Nd}}_]&&[^\p{{M}}{UNSPACED}]]"
"""A letter or digit of the other scripts. UAX 29 has no word boundary between two of them."""
# Lookbehind requires a limited length. After more than two marks, the space is a token.
SPACE_BETWEEN_WORDS = rf"(?<={SPACED_LETTER}|{SPACED_LETTER}\p{{M}}|{SPACED_LETTER}\p{{M}}\p{{M}}) (?={SPACED_LETTER})"
# Flags are matched first, because the time of \X for a row of n flags is quadratic in n.
SEGMENT = r"[\x{1F1E6}-\x{1F1FF}]{1,2}|(?y{w})\X"
"""The text between two word boundaries: a word, a number, an emoji, a space or a punctuation mark."""
SEGMENT_OF_UNSPACED_SCRIPT = rf"(?=[{UNSPACED}])(?y{{w}})\X"


def space_normalizer() -> Any:
    """Return a normalizer that removes spaces around the text, doubled spaces, tabs and line breaks.

    Other spaces, such as the no-break space, are kept inside the text.
    """
    return normalizers.Sequence(
        [normalizers.Replace(Regex(r"[\t-\r \x{85}\x{2028}\x{2029}]+"), " "), normalizers.Strip()]
    )


def word_splitter() -> Any:
    """Return a pre-tokenizer that splits text at the word boundaries of UAX 29 and drops spaces between words."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPACE_BETWEEN_WORDS), behavior="removed"),
            # For UAX 29, the narrow no-break space before a French question mark is part of the word.
            pre_tokenizers.Split("\u202f", behavior="isolated"),
            pre_tokenizers.Split(Regex(SEGMENT), behavior="isolated"),
        ]
    )


def word_joiner() -> Any:
    """Return a decoder that joins words and WordPiece tokens and restores the spaces dropped by ``word_splitter``."""
    return decoders.Sequence(
        [
            # Joins the pieces of a word, and writes a space before every other token.
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            # The first token of a text keeps its prefix.
            decoders.Replace(Regex(r"\A##"), ""),
            decoders.Replace(Regex(rf"(?<! )(?!{SPACE_BETWEEN_WORDS}) (?! )"), ""),
            # A space that is a token is now three spaces.
            decoders.Replace(Regex(" {2,}"), " "),
            # decoders.Strip panics if the text is empty.
            decoders.Replace(Regex(r"\A | \z"), ""),
        ]
    )


def earlier_word_splitter() -> Any:
    """Return the pre-tokenizer of run directories that were trained before ``word_splitter`` followed UAX 29.

    It drops all spaces. ``detokenization.join_words`` restores them.
    """
    return pre_tokenizers.Split(Regex(r"\d+(?:[.,:]\d+)+|\w+|[^\w\s]"), behavior="removed", invert=True)


def unspaced_segments(text: str) -> list[tuple[int, int]]:
    """Return the spans of the words and characters of scripts without spaces, and of the text between them.

    Chinese, Hiragana and Thai are divided into characters, Katakana into words.
    """
    splitter = pre_tokenizers.Split(Regex(SEGMENT_OF_UNSPACED_SCRIPT), behavior="isolated")
    # The library refuses unpaired surrogates.
    valid = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return [span for _, span in splitter.pre_tokenize_str(valid)]
