"""What each head is worth: how loss and BLEU change when that head alone is masked, and the file that keeps it.

Axes: L layers, H heads; both are numbered from 0, as everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.weights import AttentionKind
from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic

FORMAT = 2
"""Version of the file; a change with which older code or older files cannot be used raises it."""
NAME = "ablation.json"
"""What the file is called in a run folder."""


class Changes(NamedTuple):
    """For each head of a kind, a score with the head masked minus the score of the whole model.

    loss: in nats a target token; bleu: in points of sacreBLEU. A head that helps has a positive one and a negative one.
    """

    loss: Float[np.ndarray, "L H"]
    bleu: Float[np.ndarray, "L H"]


class Row(NamedTuple):
    """One head, and what its absence changes."""

    kind: AttentionKind
    layer: int
    head: int
    loss: float
    bleu: float


@dataclass(frozen=True, eq=False)
class Ablation:
    """What masking each head of a model changed on some sentences.

    loss, bleu: of the whole model; signature: sacreBLEU's; beam: with which the sentences were translated; step: the
    update of the training whose parameters these were, None if not known.
    Raises ValueError if a table is no [layers, heads] of finite numbers, or if the tables do not fit together.
    """

    sentences: int
    beam: int
    loss: float
    bleu: float
    signature: str
    heads: Mapping[AttentionKind, Changes]
    step: int | None = None

    def __post_init__(self) -> None:
        if set(self.heads) != set(get_args(AttentionKind)):
            raise ValueError(f"heads has the kinds {sorted(self.heads)}")
        shapes = {kind: {table.shape for table in changes} for kind, changes in self.heads.items()}
        if any(len(found) > 1 or len(min(found)) != 2 or 0 in min(found) for found in shapes.values()):
            raise ValueError(f"the tables have shapes {shapes}")
        scores = [np.asarray([self.loss, self.bleu]), *(table for changes in self.heads.values() for table in changes)]
        if not all(np.isfinite(values).all() for values in scores):
            raise ValueError("a score is no finite number")

    @property
    def conditions(self) -> str:
        """On what it was measured."""
        return f"{self.sentences} sentences, {'greedy' if self.beam == 1 else f'beam {self.beam}'}"

    def rows(self) -> Iterator[Row]:
        """Every head, the one whose absence hurts the loss most first."""
        rows = [
            Row(kind, layer, head, float(loss), float(bleu[layer, head]))
            for kind, (losses, bleu) in self.heads.items()
            for (layer, head), loss in np.ndenumerate(losses)
        ]
        yield from sorted(rows, key=lambda row: -row.loss)

    def save(self, path: Path) -> None:
        """Write all as JSON; a reader never finds half a file. Raises RunError if it cannot be written."""
        heads = {
            kind: {measure: table.tolist() for measure, table in changes._asdict().items()}
            for kind, changes in self.heads.items()
        }
        whole = {"sentences": self.sentences, "beam": self.beam, "loss": self.loss, "bleu": self.bleu}
        content = {"format": FORMAT, "step": self.step, **whole, "signature": self.signature, "heads": heads}
        try:
            atomic.write_text(path, json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}. Name another --output.") from error

    @classmethod
    def load(cls, path: Path) -> Ablation:
        """Read a file that `save` has written.

        Raises InputError if there is no such file, or if it is damaged, of another version or another program's.
        """
        remedy = "Make it again with python -m transformer_jax ablate."
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] != FORMAT:
                raise InputError(f"{path}: format {stored['format']!r} is not {FORMAT}, which is read here. {remedy}")
            return cls(
                sentences=int(stored["sentences"]),
                beam=int(stored["beam"]),
                loss=float(stored["loss"]),
                bleu=float(stored["bleu"]),
                signature=str(stored["signature"]),
                heads={
                    kind: Changes(*(np.asarray(stored["heads"][kind][measure], float) for measure in Changes._fields))
                    for kind in get_args(AttentionKind)
                },
                step=None if stored["step"] is None else int(stored["step"]),
            )
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file. {remedy}") from error
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(f"{path}: not the result of an ablation, or a damaged one. {remedy}") from error
