"""Head importance: the change of loss and BLEU when one attention head is masked, and its file format.

Axes: L layers, H heads, both with zero-based indices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.weights import AttentionKind
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic
from transformer_jax.terminal import quote_command

HEAD_IMPORTANCE_FORMAT = 2
"""Version of the file format; increase it with every incompatible change."""
HEAD_IMPORTANCE_FILE = "ablation.json"
"""Name of the file in a run directory."""


class ScoreChanges(NamedTuple):
    """The score with one head masked minus the score of the complete model, for every head of one attention type.

    loss: change of the loss in nats per target token; positive if the head helps.
    bleu: change of sacreBLEU in points; negative if the head helps.
    """

    loss: Float[np.ndarray, "L H"]
    bleu: Float[np.ndarray, "L H"]


class RankedHead(NamedTuple):
    """One head and the score changes when it is masked."""

    kind: AttentionKind
    layer: int
    head: int
    loss: float
    bleu: float


@dataclass(frozen=True, eq=False)
class HeadImportance:
    """The score changes for every head of a model, measured on one set of sentences.

    sentences: number of sentences.
    beam: beam size used to translate them.
    loss: loss of the complete model.
    bleu: sacreBLEU of the complete model.
    signature: signature of sacreBLEU.
    heads: score changes per attention type.
    step: training step of the parameters; None if unknown.

    Raises ValueError if an attention type is missing, if the tables of one type have different shapes, or if a number
    is not finite.
    """

    sentences: int
    beam: int
    loss: float
    bleu: float
    signature: str
    heads: Mapping[AttentionKind, ScoreChanges]
    step: int | None = None

    def __post_init__(self) -> None:
        if set(self.heads) != set(get_args(AttentionKind)):
            raise ValueError(
                f"heads has the attention types {sorted(self.heads)}, not {sorted(get_args(AttentionKind))}"
            )
        shapes = {kind: {table.shape for table in changes} for kind, changes in self.heads.items()}
        if any(len(of_kind) > 1 or len(min(of_kind)) != 2 or 0 in min(of_kind) for of_kind in shapes.values()):
            raise ValueError(f"the tables have shapes {shapes}, not one [layers, heads] per attention type")
        scores = [np.asarray([self.loss, self.bleu]), *(table for changes in self.heads.values() for table in changes)]
        if not all(np.isfinite(values).all() for values in scores):
            raise ValueError("a score is not finite")

    @property
    def conditions(self) -> str:
        """The number of sentences and the decoding method, such as "100 sentences, greedy"."""
        return f"{self.sentences} sentences, {'greedy' if self.beam == 1 else f'beam {self.beam}'}"

    def ranked_heads(self) -> list[RankedHead]:
        """Return all heads, sorted by descending change of the loss."""
        heads = [
            RankedHead(kind, layer, head, float(loss), float(bleu[layer, head]))
            for kind, (losses, bleu) in self.heads.items()
            for (layer, head), loss in np.ndenumerate(losses)
        ]
        return sorted(heads, key=lambda head: -head.loss)

    def save(self, path: Path) -> None:
        """Write a JSON file atomically. Raises RunError if the file cannot be written."""
        heads = {
            kind: {measure: table.tolist() for measure, table in changes._asdict().items()}
            for kind, changes in self.heads.items()
        }
        scores = {"sentences": self.sentences, "beam": self.beam, "loss": self.loss, "bleu": self.bleu}
        version = {"format": HEAD_IMPORTANCE_FORMAT, "step": self.step}
        content = {**version, **scores, "signature": self.signature, "heads": heads}
        with atomic.writing(path, "Choose another --output."):
            atomic.write_text(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> HeadImportance:
        """Read a file written by `save`.

        Raises InputError if the file does not exist, is damaged, has another format version or was not written by
        `save`.
        """
        workdir = quote_command("--workdir", path.parent)
        remedy = f"Run: python -m transformer_jax ablate {workdir} --input FILE --reference FILE"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] != HEAD_IMPORTANCE_FORMAT:
                raise InputError(
                    f"{path} has format {stored['format']!r}, but this version reads format {HEAD_IMPORTANCE_FORMAT}. "
                    f"{remedy}"
                )
            return cls(
                sentences=int(stored["sentences"]),
                beam=int(stored["beam"]),
                loss=float(stored["loss"]),
                bleu=float(stored["bleu"]),
                signature=str(stored["signature"]),
                heads={
                    kind: ScoreChanges(
                        *(np.asarray(stored["heads"][kind][measure], float) for measure in ScoreChanges._fields)
                    )
                    for kind in get_args(AttentionKind)
                },
                step=None if stored["step"] is None else int(stored["step"]),
            )
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist. {remedy}") from error
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(f"{path} is damaged or was not written by ablate. {remedy}") from error
