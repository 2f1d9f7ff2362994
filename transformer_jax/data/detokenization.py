"""Detokenization: joining subwords into plain text, and readable labels of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

QUOTES = frozenset('"„“”«»')
OPENING = frozenset("([{")
CLOSING = frozenset(".,!?;:%)]}…")
BINDING = frozenset("'’-/")


def join_words(words: Iterable[str]) -> str:
    """Join words into a sentence, with spaces between words except around some punctuation.

    Only run directories with the earlier rules need this (``tokenizers.EARLIER_SPLITTERS``). Since then, the spaces
    around punctuation are tokens.

    No space precedes a closing mark, follows an opening mark, or surrounds an apostrophe, hyphen or slash. Quotation
    marks alternate between opening and closing. Some spaces are lost, such as those in "a - b", "« oui »" and "the
    dogs' bowl".
    """
    text, no_space, in_quotes = "", True, False
    for word in words:
        is_quote = word in QUOTES
        text += word if no_space or word in CLOSING or word in BINDING or (is_quote and in_quotes) else f" {word}"
        no_space = word in OPENING or word in BINDING or (is_quote and not in_quotes)
        in_quotes ^= is_quote
    return text


def join_wordpieces(pieces: Iterable[str]) -> list[str]:
    """Join WordPiece tokens into words; a token that starts with ``##`` continues the previous word."""
    words: list[str] = []
    for piece in pieces:
        if piece.startswith("##"):
            words[-1:] = ["".join(words[-1:]) + piece.removeprefix("##")]
        else:
            words.append(piece)
    return words


def byte_of_character() -> dict[str, int]:
    """Return a dict from each character used in byte-level tokens to the byte that it represents.

    As in GPT-2, a printable byte is represented by the same character, other bytes by the characters from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF_CHARACTER = byte_of_character()


def readable_pieces(pieces: Sequence[str]) -> list[str | None]:
    """Decode successive byte-level tokens as readable text.

    A character in several tokens is part of the text of the first one. The result is None for a token without text of
    its own.
    """
    token_at_byte = [index for index, piece in enumerate(pieces) for _ in piece]
    content = bytes(BYTE_OF_CHARACTER[character] for piece in pieces for character in piece)
    labels: list[str | None] = [None] * len(pieces)
    position = 0
    # surrogateescape turns each byte of an incomplete character into U+DC00 + byte.
    for character in content.decode("utf-8", "surrogateescape"):
        token = token_at_byte[position]
        labels[token] = (labels[token] or "") + readable_character(character)
        position += len(character.encode("utf-8", "surrogateescape"))
    return labels


def readable_character(character: str) -> str:
    """Return a visible representation of a character: itself if it is printable, or joins the letters of a word."""
    if character == " ":
        return "▁"
    if "\udc80" <= character <= "\udcff":
        return "\ufffd"
    if character.isprintable() or character in "\u200c\u200d":
        return character
    return character.encode("unicode_escape").decode("ascii")
