"""One page that shows every head of one or many sentences, in any browser, from disk and without a network.

The page is `page/page.html` with the style, the scripts and the data put in. What it shows, and by which formulas, is
in `docs/attention.md`. A weight is stored as a whole number of 1/65535, at most 1/65535 (0.000016) away from that of
the .npz file, and a row sums to 65535 of them.
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

from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic

if TYPE_CHECKING:
    from transformer_jax.attention.head_importance import Ablation
    from transformer_jax.attention.weights import Attention

LIMIT = 64 * 2**20
"""Bytes of data in one page, since browsers must hold all of it: sentences beyond are left out, but for the first."""
SCRIPTS = ("numbers", "colours", "surface", "state", "map", "lines", "steps", "overview", "downloads", "main")
NOTE = (
    "Means over the queries of one sentence; formulas in docs/attention.md. "
    "What a head reads is not yet why the model decides."
)


class Html(str):
    """A page. Notebooks show it where it is the last value of a cell; elsewhere it is text to be written to a file."""

    def _repr_html_(self) -> str:
        # A frame of its own: neither page can touch the other's scripts and styles.
        return (
            f'<iframe srcdoc="{html.escape(self)}" sandbox="allow-scripts allow-downloads" '
            'style="width: 100%; height: 900px; border: 0" title="Attention explorer"></iframe>'
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # Beside the frame IPython shows, and notebooks keep, a value's text: the whole page once more.
        printer.text(f"<Attention explorer, a page of {len(self):,} characters>")


class Page:
    """A page that is being written: its beginning, sentences as they come, and its end. It holds none of them.

    ablation: what each head is worth; shown beside what it does.
    name: of the page, in errors.
    """

    def __init__(self, out: io.TextIOBase, ablation: Ablation | None = None, name: str = "the page") -> None:
        beginning, self._end = _template()
        self._out = out
        self._name = name
        self._ablation = ablation
        self._size = 0
        self._shown: list[dict[str, Any]] = []
        self._left_out: list[int] = []
        self._write(beginning)

    def add(self, number: int, attention: Attention) -> None:
        """One more sentence, from line ``number``; once a sentence is beyond the limit, it and all others are left
        out.
        """
        data = "" if self._left_out else _script(f"sentence-{len(self._shown)}", _sentence(number, attention))
        if self._left_out or (self._shown and self._size + len(data) > LIMIT):
            self._left_out.append(number)
            return
        self._write(data)
        self._size += len(data)
        self._shown.append({"number": number, "source": attention.source})

    @property
    def is_empty(self) -> bool:
        """Whether no sentence is on it."""
        return not self._shown

    @property
    def left_out(self) -> str:
        """Which sentences are not on the page, and why; empty if all are."""
        if not self._left_out:
            return ""
        return (
            f"lines from {self._left_out[0]} on are left out ({len(self._left_out)} with attention), since the page "
            f"holds at most {LIMIT // 2**20} MiB. Their .npz files have all weights."
        )

    def close(self) -> None:
        """Write the end. Raises InputError if there is nothing to show."""
        if self.is_empty:
            raise InputError("there is no sentence with attention, so nothing to show. Translate one that has letters.")
        index = {"sentences": self._shown, "left_out": self.left_out, "ablation": _changes(self._ablation)}
        self._write(_script("index", index) + self._end)

    def _write(self, text: str) -> None:
        with _named(self._name):
            self._out.write(text)


@contextlib.contextmanager
def open_page(path: Path, ablation: Ablation | None = None) -> Iterator[Page]:
    """A page that is there when it is whole. Without a sentence no page is written.

    Raises RunError if it cannot be written.
    """
    partial = atomic.own_name(path)
    with _named(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        out = partial.open("w", encoding="utf-8", newline="\n")
    try:
        page = Page(out, ablation, str(path))
        yield page
        if not page.is_empty:
            page.close()
            with _named(str(path)):
                out.close()
                os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):  # What did not fit the disk is given up.
            out.close()
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """An error of the disk says which file it struck."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{name}: cannot be written: {error.strerror}. Free space, or name another folder.") from error


def to_html(sentences: Iterable[tuple[int, Attention]], ablation: Ablation | None = None) -> Html:
    """The page of numbered sentences. Raises InputError if there is none."""
    out = io.StringIO()
    page = Page(out, ablation)
    for number, attention in sentences:
        page.add(number, attention)
    page.close()
    return Html(out.getvalue())


def _template() -> tuple[str, str]:
    """The page up to its data, and what comes after them."""
    folder = resources.files("transformer_jax.attention") / "page"
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    # Nothing is loaded, and nothing runs but this very script: what a sentence might smuggle in does not.
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    page = (folder / "page.html").read_text(encoding="utf-8")
    for name, text in (("policy", policy), ("style", style), ("note", NOTE), ("script", script)):
        page = page.replace("{{" + name + "}}", text)
    beginning, end = page.split("{{data}}")
    return beginning, end


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script(name: str, data: dict[str, Any]) -> str:
    """Data as JSON, in ASCII and without the characters that could end the element or begin another."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _changes(ablation: Ablation | None) -> dict[str, Any] | None:
    """For each kind and measure, [layers][heads]: what masking that head alone changes; and on what."""
    if ablation is None:
        return None
    return {"conditions": ablation.conditions} | {
        kind: {measure: table.tolist() for measure, table in changes._asdict().items()}
        for kind, changes in ablation.heads.items()
    }


def _sentence(number: int, attention: Attention) -> dict[str, Any]:
    """All that the page shows of a sentence."""
    names = ("source", "translation", "source_tokens", "target_tokens", "target_inputs", "source_words", "target_words")
    found = {name: getattr(attention, name) for name in names}
    for kind in ("encoder", "decoder", "cross"):
        weights = getattr(attention, kind)
        packed = base64.b64encode(quantised(weights).astype("<u2").tobytes()).decode()
        found[kind] = {"layers": weights.shape[0], "heads": weights.shape[1], "weights": packed}
    for name in ("probabilities", "alternative_probabilities"):
        values = getattr(attention, name)
        found[name] = None if values is None else np.asarray(values, np.float64).round(6).tolist()
    texts = {"source_texts": attention.source.split(), "target_texts": attention.translation.split()}
    return {"number": number, **found, **texts, "alternatives": attention.alternatives}


def quantised(weights: Float[np.ndarray, "L H Q K"]) -> np.ndarray:
    """Weights as whole numbers of 1/65535. Sums along a row are rounded, not weights, so that rows keep theirs."""
    sums = np.rint(np.cumsum(weights, axis=-1, dtype=np.float64) * 65535)
    return np.diff(sums, axis=-1, prepend=0).clip(0, 65535).astype(np.uint16)
