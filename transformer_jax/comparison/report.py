"""A comparison of runs as text, Markdown or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tabulate import tabulate

from transformer_jax.comparison.differences import Comparison
from transformer_jax.comparison.significance import SEED
from transformer_jax.terminal import escape_control_characters, one_line

Escape = Callable[[str], str]
"""A function that replaces the characters with a meaning in the output format."""
MARKDOWN_CHARACTERS = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def as_json(comparison: Comparison) -> str:
    """Return the comparison as a JSON object. Runs are in the order of its field ``runs``."""
    values = {
        **comparison._asdict(),
        "scores": {name: [score._asdict() for score in scores] for name, scores in comparison.scores.items()},
        "lines": [line._asdict() for line in comparison.lines],
        "seed": SEED,
    }
    # Line feeds and tabs are kept, but JSON has them only between its values.
    return escape_control_characters(json.dumps(values, indent=2, ensure_ascii=False))


def as_text(comparison: Comparison) -> str:
    """Return the comparison as tables of aligned columns, with the lines below each other."""
    runs = [_escape_controls(run) for run in comparison.runs]
    width = max(map(len, ("reference", *runs)))
    blocks = []
    for line in comparison.lines:
        texts = [("source", line.source), ("reference", line.reference), *zip(runs, line.hypotheses, strict=True)]
        rows = [f"{label:{width}}  {_escape_controls(text)}" for label, text in texts]
        blocks.append("\n".join([f"line {line.number}, chrF {', '.join(f'{chrf:.1f}' for chrf in line.chrf)}", *rows]))
    return "\n\n".join([*_summary(comparison, "simple", _escape_controls), *blocks])


def as_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown tables."""
    header = ["line", *(f"chrF of {run}" for run in comparison.runs), "source", "reference", *comparison.runs]
    rows = [
        [line.number, *(f"{chrf:.1f}" for chrf in line.chrf), line.source, line.reference, *line.hypotheses]
        for line in comparison.lines
    ]
    table = [_table(header, rows, "github", _escape_markdown)] if rows else []
    return "\n\n".join([*_summary(comparison, "github", _escape_markdown), *table])


def _summary(comparison: Comparison, style: str, escape: Escape) -> Iterator[str]:
    """Yield settings and scores as tables, and the text between them."""
    if comparison.settings:
        yield "Settings that differ:"
        rows = [
            [field, *("" if value is None else value for value in values)]
            for field, values in comparison.settings.items()
        ]
        yield _table(["setting", *comparison.runs], rows, style, escape)
    else:
        yield "All settings are equal."
    yield (
        f"Scores on the same test set of {comparison.sentences} lines. The p-values are those of the difference from "
        f"{escape(comparison.runs[0])} (paired tests of sacreBLEU, seed {SEED}):"
    )
    header = ["metric", "run", "score", "difference", "p (bootstrap)", "p (randomization)"]
    yield _table(header, list(_score_rows(comparison)), style, escape)
    for metric, scores in comparison.scores.items():
        for run, score in zip(comparison.runs, scores, strict=True):
            if score.randomization is not None and score.randomization < score.least_p_value:
                yield (
                    f"{metric}, {escape(run)}: the number of lines that differ is {score.differing_lines}. With so "
                    f"few, a p-value (randomization) below {score.least_p_value:.4f} is not possible."
                )
    yield "\n".join(f"- {metric} `{scores[0].signature}`" for metric, scores in comparison.scores.items())
    yield "The lines that differ most:" if comparison.lines else "All translations are equal."


def _score_rows(comparison: Comparison) -> Iterator[list[str]]:
    """Yield one row per metric and run. The first run has no difference and no p-values."""
    for metric, scores in comparison.scores.items():
        for run, score in zip(comparison.runs, scores, strict=True):
            row = [metric, run, f"{score.value:.2f}"]
            if score.bootstrap is not None and score.randomization is not None:
                row += [f"{score.value - scores[0].value:+.2f}", f"{score.bootstrap:.4f}", f"{score.randomization:.4f}"]
            yield row


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], style: str, escape: Escape) -> str:
    cells = [[escape(str(cell)) for cell in row] for row in (header, *rows)]
    return tabulate(cells[1:], cells[0], tablefmt=style, disable_numparse=True)


def _escape_controls(text: str) -> str:
    """Return the text with escapes in place of characters that break a line or control a terminal."""
    return one_line(text, len(text))


def _escape_markdown(text: str) -> str:
    """Return Markdown that is displayed as the text."""
    return MARKDOWN_CHARACTERS.sub(r"\\\1", _escape_controls(text))
