"""What each head is worth: how loss and BLEU change when that head alone is masked; the file that keeps it, and its
picture.

Axes: L layers, H heads; both are numbered from 0, as everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from transformer_jax import atomic
from transformer_jax.attention.pictures import NAMES, Kind, blank
from transformer_jax.errors import InputError, RunError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMAT = 2
"""Version of the file; a change with which older code or older files cannot be used raises it."""
NAME = "ablation.json"
"""What the file is called in a run folder."""
CELL = 0.42, 0.23
"""Width and height in inches: room for a value of 6 points."""


class Changes(NamedTuple):
    """For each head of a kind, a score with the head masked minus the score of the whole model.

    loss: in nats a target token; bleu: in points of sacreBLEU. A head that helps has a positive one and a negative one.
    """

    loss: Float[np.ndarray, "L H"]
    bleu: Float[np.ndarray, "L H"]


class Row(NamedTuple):
    """One head, and what its absence changes."""

    kind: Kind
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
    heads: Mapping[Kind, Changes]
    step: int | None = None

    def __post_init__(self) -> None:
        if set(self.heads) != set(get_args(Kind)):
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
        remedy = "Make it again with python -m transformer_jax.attention ablate."
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
                    for kind in get_args(Kind)
                },
                step=None if stored["step"] is None else int(stored["step"]),
            )
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file. {remedy}") from error
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(f"{path}: not the result of an ablation, or a damaged one. {remedy}") from error


def draw(ablation: Ablation) -> Figure:
    """Two heat maps for each kind of attention, layers by heads: the change of the loss, and that of sacreBLEU.

    Both are red where the model is worse without the head, blue where it is better, on one scale for all kinds.
    """
    layers = {kind: len(changes.loss) for kind, changes in ablation.heads.items()}
    heads = max(changes.loss.shape[1] for changes in ablation.heads.values())
    line, left, right, top, foot = 0.42, 0.45, 0.1, 0.05, 0.65
    pitch = max(heads * CELL[0], 1.9) + left  # A title must fit above a map of few heads.
    width, height = 2 * pitch + right, sum(line + count * CELL[1] for count in layers.values()) + top + foot
    figure = blank()
    figure.set_size_inches(width, height)

    measures = ("change of loss, nats a token", "change of sacreBLEU, points")
    for column, (measure, title) in enumerate(zip(Changes._fields, measures, strict=True)):
        tables = {kind: getattr(changes, measure) for kind, changes in ablation.heads.items()}
        largest = max(float(np.abs(table).max()) for table in tables.values()) or 1.0
        x, y = left + column * pitch, height - top
        figure.text(x / width, 1 - 0.04 / height, title, fontsize=7, fontweight="bold", va="top")
        for kind, table in tables.items():
            y -= line + layers[kind] * CELL[1]
            size = table.shape[1] * CELL[0] / width, layers[kind] * CELL[1] / height
            axes = figure.add_axes((x / width, y / height, *size))
            worse = table if measure == "loss" else -table
            _change_map(axes, worse / largest, [[_signed(value, measure) for value in row] for row in table])
            axes.set_title(NAMES[kind], fontsize=7, loc="left", pad=3)
            axes.set_ylabel("layer", fontsize=6, labelpad=2)
        axes.set_xlabel("head", fontsize=6, labelpad=2)
    note = (
        f"Red: worse without the head; blue: better.  {ablation.conditions}.\n"
        f"With all heads: loss {ablation.loss:.4f}, sacreBLEU {ablation.bleu:.2f}."
    )
    figure.text(0.1 / width, 0.05 / height, note, fontsize=6, color="0.3", va="bottom", linespacing=1.4)
    return figure


def _change_map(axes: Axes, worse: Float[np.ndarray, "L H"], values: Sequence[Sequence[str]]) -> None:
    """One heat map from -1, blue, to 1, red, with the values written in its cells."""
    axes.imshow(worse, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest", origin="upper")
    axes.spines[:].set(color="0.5", linewidth=0.6)
    layers, heads = worse.shape
    axes.set_xticks(range(heads), labels=map(str, range(heads)))
    axes.set_yticks(range(layers), labels=map(str, range(layers)))
    axes.tick_params(labelsize=6, length=0, pad=2)
    for (layer, head), shade in np.ndenumerate(worse):
        on_dark = abs(shade) > 0.6
        text = values[layer][head]
        axes.text(head, layer, text, fontsize=6, ha="center", va="center", color="white" if on_dark else "black")


def _signed(value: float, measure: str) -> str:
    """The value with its sign, and a true minus; a zero has none."""
    rounded = f"{value:+.3f}" if measure == "loss" else f"{value:+.2f}"
    return rounded.replace("-", "\N{MINUS SIGN}") if float(rounded) else rounded[1:]
