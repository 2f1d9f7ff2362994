"""The texts of a run, known by their content, in the file ``data.json`` of a run directory.

The file also records facts about the files that a text was read from. While they stay the same, a later start need not
read the training text to know its identity.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformer_jax.config import DataConfig
from transformer_jax.data.identity import Identity
from transformer_jax.data.sources import Pairs
from transformer_jax.data.unknown_text import UnknownShares
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

FILE_NAME = "data.json"
FORMAT = 1
"""Version of the file. Increase it when its fields change."""
READER_VERSION = 1
"""Version of the rules by which files become pairs. Increase it when they change: then every text is read again."""
ROLES = {"train": "training text", "valid": "validation text", "test": "test set"}


class RunText(NamedTuple):
    """One of the three texts of a run.

    identity: identity of the pairs, without skipped ones.
    skipped: number of invalid records that were skipped.
    origin: where and how the text was read; None for the phrasebook.
    unknown: shares of unknown tokens (``unknown_text``); None for the test set.
    """

    identity: Identity
    skipped: int
    origin: dict[str, Any] | None
    unknown: UnknownShares | None = None


class RunData(NamedTuple):
    """The three texts of a run."""

    train: RunText
    valid: RunText
    test: RunText

    def identities(self) -> dict[str, str]:
        """Return the identity of each text by its name, such as for a comparison between hosts."""
        return {name: str(text.identity) for name, text in zip(ROLES.values(), self, strict=True)}

    def save(self, directory: Path) -> None:
        """Write the file to a run directory."""
        texts = {
            role: {
                **text._asdict(),
                "identity": text.identity._asdict(),
                "unknown": text.unknown and text.unknown._asdict(),
            }
            for role, text in self._asdict().items()
        }
        atomic.write_text(directory / FILE_NAME, json.dumps({"format": FORMAT, **texts}, indent=2) + "\n")

    @staticmethod
    def exists(directory: Path) -> bool:
        """Return whether a run directory contains the file. Runs of earlier versions do not."""
        return (directory / FILE_NAME).exists()

    @staticmethod
    def remove(directory: Path) -> None:
        """Remove the file that ``save`` writes, if it exists."""
        (directory / FILE_NAME).unlink(missing_ok=True)

    @classmethod
    def load(cls, directory: Path) -> RunData | None:
        """Read the file of a run; None for runs of earlier versions. Raises InputError if the file is damaged."""
        if not cls.exists(directory):
            return None
        path = directory / FILE_NAME
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if (version := values.pop("format")) != FORMAT:
                raise ValueError(f"its format is {version!r}, not {FORMAT}")
            return cls(**{role: _parse_text(**text) for role, text in values.items()})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path} is damaged ({error}). Restore it from a copy, or delete it: the run then compares only the "
                "sizes of its training text."
            ) from error


def _parse_text(identity: Any, skipped: Any, origin: Any, unknown: Any) -> RunText:
    """Return a text from its JSON values. Raises ValueError or TypeError if a value is invalid."""
    parsed = Identity(**identity)
    for count in (parsed.pairs, skipped):
        if type(count) is not int or count < 0:
            raise ValueError("a count is invalid")
    for checksum in parsed[1:]:
        if not isinstance(checksum, str) or not re.fullmatch("[0-9a-f]{32}", checksum):
            raise ValueError("a checksum is invalid")
    if not isinstance(origin, dict | None):
        raise ValueError("an origin is invalid")
    shares = UnknownShares(**unknown) if unknown is not None else None
    for share in shares or ():
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise ValueError("a share is invalid")
    return RunText(parsed, skipped, origin, shares)


def identify_texts(texts: Sequence[Pairs], data: DataConfig, recorded: RunData | None) -> RunData:
    """Return the identities of the training, validation and test text.

    A text is read if this was not done yet, unless its origin is as recorded.

    recorded: the texts that the run was started with, if known.
    """
    return RunData(*map(_identify_text, texts, itertools.repeat(data), recorded or (None, None, None)))


def _identify_text(text: Pairs, data: DataConfig, recorded: RunText | None) -> RunText:
    origin = text_origin(text, data)
    if text.identity is None:
        if recorded and origin and origin == recorded.origin:
            return recorded
        deque(text, maxlen=0)
    assert text.identity is not None
    return RunText(text.identity, text.skipped or 0, origin, recorded.unknown if recorded else None)


def text_origin(text: Pairs, data: DataConfig) -> dict[str, Any] | None:
    """Return everything that determines the pairs without reading them, as JSON values; None for the phrasebook."""
    if text.is_generated:
        return None
    return {
        "reader": READER_VERSION,
        "languages": [data.source, data.target],
        "on_error": data.on_error,
        "fingerprint": text.fingerprint,
        "files": [facts._asdict() for facts in text.files],
    }


def require_same_texts(current: RunData, recorded: RunData, data: DataConfig, workdir: Path) -> None:
    """Raise InputError if a text is not the one that the run in ``workdir`` was started with."""
    differences = [
        f"the {ROLES[role]} {getattr(data, role)} {text.identity.difference(earlier.identity)}"
        for role, text, earlier in zip(ROLES, current, recorded, strict=True)
        if text.identity != earlier.identity
    ]
    if differences:
        raise InputError(
            f"the run in {workdir} was started with other text: {', and '.join(differences)}. Restore the text, or "
            "choose another --workdir."
        )
