"""The explorer page in a browser: fixtures that open it from disk, without a network, and helpers that use it."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from browser import record_violations
from explorer_cases import ARABIC, HOSTILE, JAPANESE, make_attention

from transformer_jax.attention.explorer import open_page
from transformer_jax.attention.head_importance import HeadImportance, ScoreChanges
from transformer_jax.attention.weights import Attention

TOLERANCE = 1.01 / 65535
"""Largest difference between a weight of the page and of the .npz file."""
KINDS = ("encoder", "decoder", "cross")


class ExplorerCase(NamedTuple):
    """A page, and the data that it was made from.

    path: the page.
    importance: the head importance that it shows.
    sentences: the attention of its sentences, read back from their .npz files.
    """

    path: Path
    importance: HeadImportance
    sentences: list[Attention]


def write_case(folder: Path, attentions: dict[int, Attention]) -> ExplorerCase:
    """Write a page and the .npz files of some sentences, given by line number."""
    generator = np.random.default_rng(0)
    changes = {kind: ScoreChanges(*generator.standard_normal((2, 2 if kind == "encoder" else 3, 5))) for kind in KINDS}
    importance = HeadImportance(sentences=11, beam=1, loss=1.0, bleu=30.0, signature="", heads=changes)
    with open_page(folder / "index.html", importance) as page:
        for number, attention in attentions.items():
            attention.save(folder / f"{number}.npz")
            page.add(number, attention)
    saved = [Attention.load(folder / f"{number}.npz") for number in attentions]
    return ExplorerCase(folder / "index.html", importance, saved)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> ExplorerCase:
    """Return a page with lines 1, 3 and 7: English to German, Japanese to Arabic, and hostile text."""
    attentions = {
        1: make_attention(seed=1),
        3: make_attention(JAPANESE, ARABIC, seed=3),
        7: make_attention((HOSTILE, "<b>&amp;", "\u202eabc", "", "[EOS]"), ("[EOS]",), seed=7, source_text=HOSTILE),
    }
    return write_case(tmp_path_factory.mktemp("explorer"), attentions)


@pytest.fixture(scope="module")
def context(browser) -> Iterator:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True, accept_downloads=True)
    yield context
    context.close()


@pytest.fixture(scope="module")
def violations(context) -> list[str]:
    return record_violations(context, ("file:", "blob:", "about:"))


@pytest.fixture(scope="module")
def tab(context):
    """Return the tab that the tests of a module share, because opening a tab takes longer than loading the page."""
    return context.new_page()


@pytest.fixture
def page(tab, violations, case) -> Iterator:
    """Load the page in the shared tab; ``page.open(fragment)`` loads another view.

    After each test, the page must not have requested or logged anything.
    """
    yield from load_page(tab, violations, case)


@pytest.fixture
def page_without_history(context, violations, case) -> Iterator:
    """Load the page in a new tab, since the history of the shared one may be full and would hide new entries."""
    new_tab = context.new_page()
    yield from load_page(new_tab, violations, case)
    new_tab.close()


def load_page(tab, violations: list[str], case: ExplorerCase) -> Iterator:
    loads = itertools.count()

    def load_view(fragment: str = "") -> None:
        # With the same query, a new fragment would not load the page again.
        tab.goto(f"{case.path.as_uri()}?load={next(loads)}{fragment}")

    violations.clear()
    tab.set_default_timeout(10_000)
    tab.set_viewport_size({"width": 1280, "height": 800})
    tab.emulate_media(color_scheme="light")
    tab.mouse.move(0, 0)
    tab.open = load_view
    tab.goto("about:blank")
    tab.open()
    yield tab
    requests = tab.evaluate("performance.getEntriesByType('resource').map((entry) => entry.toJSON().name)")
    assert not violations
    assert not requests


def head_button(page, kind: str, layer: int, head: int):
    return page.locator(f'.head[data-kind="{kind}"][data-layer="{layer}"][data-head="{head}"]')


def select(page, name: str, value: str) -> None:
    """Select an option of the toolbar."""
    page.locator(f'input[name="{name}"][value="{value}"]').check(force=True)


def title(page) -> str:
    return page.locator("h2#title").inner_text()


def point_at(page, query: int, key: int) -> None:
    """Move the mouse to a cell of the heat map, which must be visible."""
    layout = page.evaluate("pageLayout(selectedMatrix(state, sentence))")
    box = page.locator("#stage").bounding_box()
    scrolled = page.evaluate("[element('stage').scrollLeft, element('stage').scrollTop]")
    x, y = (layout[edge] + (index + 0.5) * layout["cell"] for edge, index in (("left", key), ("top", query)))
    page.mouse.move(box["x"] + x - scrolled[0], box["y"] + y - scrolled[1])


def read_weight(page) -> float:
    """Return the weight that the readout shows."""
    return float(page.locator("#weight").inner_text())


def evaluate_matrix(page, expression: str) -> np.ndarray:
    matrix = page.evaluate(f"(() => {{ const m = {expression}; return {{...m, values: Array.from(m.values)}}; }})()")
    return np.reshape(matrix["values"], (matrix["rows"], matrix["columns"]))


def selected_matrix(page) -> np.ndarray:
    """Return the weights that the view shows."""
    return evaluate_matrix(page, "selectedMatrix(state, sentence)")


def download(page, button: str) -> tuple[Path, str]:
    """Click a button; return the path and the name of the downloaded file."""
    with page.expect_download() as waiting:
        page.locator(button).click()
    return Path(waiting.value.path()), waiting.value.suggested_filename
