"""The attention explorer: a self-contained HTML page that shows every head for one or more sentences.

The page consists of `page/page.html` with the style sheet, the scripts and the data inserted. `docs/attention.md`
describes its views and formulas. Weights are stored as integer multiples of 1/65535. Each weight differs from the
weight in the .npz file by at most 1/65535 (0.000016), and the integers of each row sum to 65535.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import io
import json
import os
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

if TYPE_CHECKING:
    from transformer_jax.attention.head_importance import HeadImportance
    from transformer_jax.attention.weights import Attention

MAX_DATA_BYTES = 64 * 2**20
"""Maximum size of the data of one page, which browsers keep in memory. The first sentence is always included."""
WRITE_REMEDY = "Free disk space or choose another --attention."
SCRIPT_FILES = ("numbers", "colours", "surface", "state", "map", "lines", "steps", "overview", "downloads", "main")
SUMMARY_NOTE = (
    "Each number is a mean over the queries of this sentence. The formulas are in docs/attention.md. "
    "Attention weights alone do not explain the model's decisions."
)


class Html(str):
    """The text of an HTML page. Notebooks display the page when it is the last value of a cell."""

    def _repr_html_(self) -> str:
        # A sandboxed frame isolates the scripts and styles of the two pages from each other.
        return (
            f'<iframe srcdoc="{html.escape(self)}" sandbox="allow-scripts allow-downloads" '
            'style="width: 100%; height: 900px; border: 0" title="Attention explorer"></iframe>'
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # IPython also stores the plain text of a value in the notebook, which would duplicate the page.
        printer.text(f"<Attention explorer, a page of {len(self):,} characters>")


class PageWriter:
    """An incremental writer of the explorer page. It does not keep attention weights in memory.

    out: the text stream to write to.
    importance: head importance, shown in the table of heads.
    name: the name of the page in error messages.
    """

    def __init__(self, out: io.TextIOBase, importance: HeadImportance | None = None, name: str = "the page") -> None:
        start, self._end = _page_template()
        self._out = out
        self._name = name
        self._importance = importance
        self._data_bytes = 0
        self._included: list[dict[str, Any]] = []
        self._omitted_lines: list[int | str] = []
        self._write(start)

    def add(self, name: int | str, attention: Attention) -> None:
        """Write a sentence, unless this or an earlier sentence exceeds the size limit.

        name: the number of the line, followed by that of the sentence if the line has several: 3.2.
        """
        if not self._omitted_lines:
            data = _json_script(f"sentence-{len(self._included)}", _sentence_data(name, attention))
            if not self._included or self._data_bytes + len(data) <= MAX_DATA_BYTES:
                self._write(data)
                self._data_bytes += len(data)
                self._included.append({"number": name, "source": attention.source})
                return
        self._omitted_lines.append(name)

    @property
    def is_empty(self) -> bool:
        """Whether the page has no sentence."""
        return not self._included

    @property
    def left_out(self) -> str:
        """A message about the omitted sentences; empty if the page contains all sentences."""
        if not self._omitted_lines:
            return ""
        return (
            f"sentences from line {self._omitted_lines[0]} onward are omitted ({len(self._omitted_lines)} in total), "
            f"because a page contains at most {MAX_DATA_BYTES // 2**20} MiB. Their weights are in the .npz files."
        )

    def close(self) -> None:
        """Write the end of the page. Raises InputError if the page has no sentence."""
        if self.is_empty:
            raise InputError("the page has no sentences. Add at least one sentence with attention weights.")
        index = {
            "sentences": self._included,
            "left_out": self.left_out,
            "ablation": _head_importance_data(self._importance),
        }
        self._write(_json_script("index", index) + self._end)

    def _write(self, text: str) -> None:
        with atomic.writing(self._name, WRITE_REMEDY):
            self._out.write(text)


@contextlib.contextmanager
def open_page(path: Path, importance: HeadImportance | None = None) -> Iterator[PageWriter]:
    """Open a page that is renamed to ``path`` when it is complete. Write no file for a page without sentences.

    Raises RunError if the page cannot be written.
    """
    partial = atomic.partial_path(path)
    with atomic.writing(path, WRITE_REMEDY):
        path.parent.mkdir(parents=True, exist_ok=True)
        out = partial.open("w", encoding="utf-8", newline="\n")
    try:
        page = PageWriter(out, importance, str(path))
        yield page
        if not page.is_empty:
            page.close()
            with atomic.writing(path, WRITE_REMEDY):
                out.close()
                os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):  # Closing flushes, which fails again if the disk is full.
            out.close()
        partial.unlink(missing_ok=True)


def render_page(sentences: Iterable[tuple[int | str, Attention]], importance: HeadImportance | None = None) -> Html:
    """Return the page for pairs of name and attention; see ``PageWriter.add``. Raises InputError without a pair."""
    out = io.StringIO()
    page = PageWriter(out, importance)
    for name, attention in sentences:
        page.add(name, attention)
    page.close()
    return Html(out.getvalue())


def _page_template() -> tuple[str, str]:
    """Return the text of the page before and after its data."""
    directory = resources.files("transformer_jax.attention") / "page"
    style = (directory / "page.css").read_text(encoding="utf-8")
    script = "\n".join((directory / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPT_FILES)
    # The browser loads nothing and runs only this script, so a script hidden in a sentence cannot run.
    policy = (
        f"default-src 'none'; style-src {_csp_hash(style)}; script-src {_csp_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = (directory / "page.html").read_text(encoding="utf-8")
    for name, text in (("policy", policy), ("style", style), ("note", SUMMARY_NOTE), ("script", script)):
        page = page.replace("{{" + name + "}}", text)
    start, end = page.split("{{data}}")
    return start, end


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json_script(name: str, data: dict[str, Any]) -> str:
    """Return a script element with the data as ASCII JSON, in which "<", ">" and "&" are escaped."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _head_importance_data(importance: HeadImportance | None) -> dict[str, Any] | None:
    """Return the score changes as lists [layers][heads] per attention type and metric, and the evaluation settings."""
    if importance is None:
        return None
    return {"conditions": importance.conditions} | {
        kind: {measure: table.tolist() for measure, table in changes._asdict().items()}
        for kind, changes in importance.heads.items()
    }


def _sentence_data(number: int | str, attention: Attention) -> dict[str, Any]:
    """Return the JSON data of one sentence. See ``PageWriter.add`` for its number."""
    names = ("source", "translation", "source_tokens", "target_tokens", "target_inputs", "source_words", "target_words")
    data = {name: getattr(attention, name) for name in names}
    for kind in ("encoder", "decoder", "cross"):
        weights = getattr(attention, kind)
        packed = base64.b64encode(quantize_weights(weights).astype("<u2").tobytes()).decode()
        data[kind] = {"layers": weights.shape[0], "heads": weights.shape[1], "weights": packed}
    for name in ("probabilities", "alternative_probabilities"):
        values = getattr(attention, name)
        data[name] = None if values is None else np.asarray(values, np.float64).round(6).tolist()
    texts = {
        "source_texts": attention.source_texts or attention.source.split(),
        "target_texts": attention.target_texts or attention.translation.split(),
    }
    return {"number": number, **data, **texts, "alternatives": attention.alternatives}


def quantize_weights(weights: Float[np.ndarray, "L H Q K"]) -> np.ndarray:
    """Return weights as integer multiples of 1/65535.

    Cumulative sums are rounded instead of weights, so the sum of a row stays exact.
    """
    sums = np.rint(np.cumsum(weights, axis=-1, dtype=np.float64) * 65535)
    return np.diff(sums, axis=-1, prepend=0).clip(0, 65535).astype(np.uint16)
