"""The confidence of a model on its validation set, to which the confidence of a translation is compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

FILE_NAME = "confidence.json"
PERCENTILES = (0.2, 1, 5, 25, 50, 75, 95, 99)


class Confidence(NamedTuple):
    """The distribution of the mean log-probability per token of the validation translations.

    step: the training step of the model.
    percentiles: the values of this distribution at ``PERCENTILES``.
    """

    step: int
    percentiles: tuple[float, ...]

    @property
    def minimum(self) -> float:
        """The mean log-probability per token below which a translation is suspicious."""
        return self.percentiles[0]

    @classmethod
    def measure(cls, step: int, log_probabilities: list[float]) -> Confidence:
        """Return the distribution for these mean log-probabilities per token. Without any, it is NaN."""
        return cls(step, tuple(np.percentile(log_probabilities or [math.nan], PERCENTILES).tolist()))

    def save(self, directory: Path) -> None:
        """Write the distribution to a run directory."""
        percentiles = dict(zip(map(str, PERCENTILES), self.percentiles, strict=True))
        atomic.write_text(
            directory / FILE_NAME, json.dumps({"step": self.step, "percentiles": percentiles}, indent=2) + "\n"
        )

    @classmethod
    def load(cls, directory: Path) -> Confidence | None:
        """Read the distribution of a run; None for imported runs and for runs of earlier versions.

        Raises InputError if the file is damaged.
        """
        path = directory / FILE_NAME
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            percentiles = tuple(float(values["percentiles"][str(at)]) for at in PERCENTILES)
            if any(value > 0 for value in percentiles):
                raise ValueError("a log-probability is above 0")
            return cls(int(values["step"]), percentiles)
        except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise InputError(f"{path} is damaged ({error!r}). Copy the complete run directory again.") from error
