"""Identity of a parallel text by its content, and facts that show whether its files have changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from transformer_jax.data.records import Pair

BLOCK_PAIRS = 200
"""Maximum number of pairs hashed at a time. Larger blocks leave the processor's cache."""
LONG_TEXT = 1000
"""Number of characters of a text that is hashed at once, so that a block of long texts takes little memory."""


class Identity(NamedTuple):
    """The content of a parallel text. The same pairs have the same identity in any file and format.

    pairs: number of pairs.
    sources, targets: checksums of the sentences of each language, in order.
    """

    pairs: int
    sources: str
    targets: str

    def __str__(self) -> str:
        return f"{self.pairs:,} pairs, checksums {self.sources} {self.targets}"

    def difference(self, other: Identity) -> str:
        """Return how this text differs from ``other``, as the end of a sentence about this text."""
        if self.pairs != other.pairs:
            return f"has {self.pairs:,} instead of {other.pairs:,} pairs"
        sides = [name for name, *checksums in zip(self._fields, self, other, strict=True) if len(set(checksums)) > 1]
        order = " or another order" if len(sides) > 1 else ""
        return f"has {self.pairs:,} pairs as before, but other {' and '.join(sides)}{order}"


class PairsChecksum:
    """Computes the identity of pairs while they are read."""

    def __init__(self) -> None:
        self._sides = hashlib.sha256(), hashlib.sha256()
        self._block: list[Pair] = []
        self._pairs = 0

    def add(self, pair: Pair) -> None:
        """Add the next pair."""
        self._block.append(pair)
        if len(self._block) == BLOCK_PAIRS or len(pair.source) > LONG_TEXT or len(pair.target) > LONG_TEXT:
            self._hash_block()

    def identity(self) -> Identity:
        """Return the identity of all pairs added so far."""
        self._hash_block()
        return Identity(self._pairs, *(side.hexdigest()[:32] for side in self._sides))

    def _hash_block(self) -> None:
        for side, texts in zip(self._sides, zip(*self._block, strict=True), strict=False):
            # A NUL ends each text, because no text contains one (``validate_text``).
            side.update("\0".join((*texts, "")).encode())
        self._pairs += len(self._block)
        self._block.clear()


class FileFacts(NamedTuple):
    """Facts about a file that change with its content."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileFacts:
        """Return the present facts about a file."""
        status = path.stat()
        return cls(os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def still_hold(self) -> bool:
        """Return whether the file has not been written or replaced since. Permissions may have changed."""
        try:
            present = FileFacts.of(Path(self.path))
        except OSError:
            return False
        return present._replace(ctime_ns=self.ctime_ns) == self
