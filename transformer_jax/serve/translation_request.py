"""The body of a request for translations: the text, and options of the search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformer_jax.decoding.search import Sampling
from transformer_jax.errors import InputError

MAX_CHARACTERS, MAX_LINES = 2_000, 20
"""Limits of the text in one request; they also bound the number of its sentences."""
MAX_BODY_BYTES = 1_000 + 12 * MAX_CHARACTERS
"""Limit of a request body: JSON may write one character as two escapes of six bytes."""
MAX_BEAM, MAX_TOP_K = 16, 100
"""Limits of options. Every value has programs of its own, whose compilation takes seconds."""


@dataclass(frozen=True)
class TranslationRequest:
    """The lines to translate, and options of the search. None stands for the default.

    lines: the lines of the text.
    beam: beam size.
    n_best: number of translations per line.
    length_penalty: strength of the length penalty.
    sampling: options of random sampling, which replaces the search.
    """

    lines: list[str]
    beam: int | None = None
    n_best: int | None = None
    length_penalty: float | None = None
    sampling: Sampling | None = None


def parse_request(body: bytes) -> TranslationRequest:
    """Return the request. Raises InputError if the text is too long or empty, or if a field is invalid or unknown."""
    too_long = InputError(f"the text exceeds {MAX_CHARACTERS:,} characters or {MAX_LINES} lines. Send a shorter text.")
    if len(body) > MAX_BODY_BYTES:
        raise too_long
    try:
        fields = dict(json.loads(body))
        text = fields["text"]
        text.encode()  # Raises UnicodeEncodeError for half of a surrogate pair.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError('the request is invalid. Send JSON such as {"text": "Good morning."}.') from error
    # As in a file, the last line may end with "\n", and lines may end with "\r\n".
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(text) > MAX_CHARACTERS or len(lines) > MAX_LINES:
        raise too_long
    if not text.strip():
        raise InputError("the text is empty. Send some text.")
    fields = _typed(fields, {"text": str, "beam": int, "n_best": int, "length_penalty": float, "sampling": dict})
    _check_limits(fields, {"beam": MAX_BEAM, "n_best": MAX_BEAM})
    options = {name: value for name, value in fields.items() if name != "text"}
    if "sampling" in options:
        sampling = _typed(options["sampling"], {"temperature": float, "top_k": int, "seed": int})
        _check_limits(sampling, {"top_k": MAX_TOP_K})
        options["sampling"] = Sampling(**sampling)
    return TranslationRequest(lines, **options)


def _typed(fields: Mapping[str, Any], types: Mapping[str, type]) -> dict[str, Any]:
    """Return the fields, with all numbers as floats. Raises InputError if a field is unknown or has a wrong type."""
    typed: dict[str, Any] = {}
    names = {int: "an integer", float: "a number", dict: "an object"}
    for name, value in fields.items():
        if name not in types:
            raise InputError(f'the field "{name}" is unknown. Send only {", ".join(types)}.')
        is_number = types[name] is float and type(value) is int
        if type(value) is not types[name] and not is_number:
            raise InputError(f'"{name}" is not {names[types[name]]}. Send {names[types[name]]}.')
        typed[name] = float(str(value)) if is_number else value  # Digits beyond the range of floats become infinity.
    return typed


def _check_limits(fields: Mapping[str, Any], limits: Mapping[str, int]) -> None:
    for name, limit in limits.items():
        if fields.get(name, 0) > limit:
            raise InputError(f'"{name}" is {fields[name]}. Send at most {limit}.')
