"""The numbers of the explorer page equal those of the arrays.

The functions of the page's script are called in the browser and compared with NumPy.
"""

import csv
import io

import numpy as np
import pytest
from browser import browser  # noqa: F401
from explorer_page import (  # noqa: F401
    KINDS,
    TOLERANCE,
    case,
    context,
    download,
    evaluate_matrix,
    head_button,
    page,
    point_at,
    read_weight,
    select,
    selected_matrix,
    tab,
    title,
    violations,
)
from numpy.testing import assert_allclose

from transformer_jax.attention.words import merge_words

# Imported fixtures share the names of test arguments.
# ruff: noqa: F811
ROUNDING = 0.5e-5
"""The readout shows five decimals."""

# Weights


@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_equal_those_of_the_npz(kind, page, case) -> None:
    weights = getattr(case.sentences[0], kind)
    for layer, head in np.ndindex(*weights.shape[:2]):
        matrix = evaluate_matrix(page, f"decodedHeads(sentence, '{kind}').head({layer}, {head})")
        assert_allclose(matrix, weights[layer, head], atol=TOLERANCE)
        assert_allclose(matrix.sum(-1), 1, atol=1e-12)


def test_weight_at_the_mouse_equals_that_of_the_npz(page, case) -> None:
    for kind, layer, head in (("cross", 2, 0), ("encoder", 1, 3), ("decoder", 0, 4)):
        head_button(page, kind, layer, head).click()
        weights = getattr(case.sentences[0], kind)[layer, head]
        for query, key in ((0, 0), (1, 2), (5, 3), (6, 6)):
            point_at(page, query, key)
            assert read_weight(page) == pytest.approx(weights[query, key], abs=TOLERANCE + ROUNDING)
    readout = page.locator("#readout").inner_text()
    assert "? attends to hof with weight" in readout
    assert "? attends to\n" in readout
    assert "hof is attended to by" in readout


def test_pointing_at_a_label_selects_its_row_or_column(page) -> None:
    layout = page.evaluate("pageLayout(selectedMatrix(state, sentence))")
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + layout["left"] - 15, box["y"] + layout["top"] + 2.5 * layout["cell"])
    assert page.locator("#readout p").all_inner_texts() == ["▁der attends to"]
    angle = np.radians(55)
    x, y = layout["left"] + 3.5 * layout["cell"] + 30 * np.cos(angle), layout["top"] - 7 - 30 * np.sin(angle)
    page.mouse.move(box["x"] + x, box["y"] + y)
    assert page.locator("#readout p").all_inner_texts() == ["▁old is attended to by"]


def test_arrow_keys_move_between_cells(page, case) -> None:
    stage = page.locator("#stage")
    assert stage.get_attribute("role") == "application", "otherwise a screen reader intercepts the arrow keys"
    stage.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp"):  # The first one selects row 0 and column 0.
        page.keyboard.press(key)
    assert read_weight(page) == pytest.approx(case.sentences[0].cross[2, 0, 0, 1], abs=TOLERANCE + ROUNDING)
    select(page, "view", "steps")
    assert stage.get_attribute("role") == "group", "otherwise a screen reader does not read the text"


def test_tap_shows_the_weight_below_it(browser, case) -> None:
    context = browser.new_context(viewport={"width": 420, "height": 800}, offline=True, has_touch=True)
    page = context.new_page()
    page.goto(case.path.as_uri())
    layout = page.evaluate("pageLayout(selectedMatrix(state, sentence))")
    x, y = (layout[edge] + (index + 0.5) * layout["cell"] for edge, index in (("left", 2), ("top", 3)))
    page.locator("#stage").tap(position={"x": x, "y": y})
    assert read_weight(page) == pytest.approx(case.sentences[0].cross[2, 0, 3, 2], abs=TOLERANCE + ROUNDING)
    context.close()


def test_cursor_is_kept_when_the_head_changes(page, case) -> None:
    point_at(page, 3, 2)
    page.keyboard.press("Shift+ArrowRight")
    assert read_weight(page) == pytest.approx(case.sentences[0].cross[2, 1, 3, 2], abs=TOLERANCE + ROUNDING)
    page.set_viewport_size({"width": 1000, "height": 700})
    page.wait_for_timeout(50)
    assert read_weight(page) == pytest.approx(case.sentences[0].cross[2, 1, 3, 2], abs=TOLERANCE + ROUNDING)
    select(page, "kind", "decoder")
    assert page.locator("#weight").count() == 0, "another kind has other cells"


# Combined heads and words


def test_heads_are_combined_by_mean_and_maximum(page, case) -> None:
    cross = case.sentences[0].cross
    select(page, "combine", "mean")
    assert_allclose(selected_matrix(page), cross[2].mean(0), atol=TOLERANCE)
    page.locator("#all-layers").click()
    assert title(page) == "Cross-attention, mean of 15 heads"
    assert_allclose(selected_matrix(page), cross.mean((0, 1)), atol=TOLERANCE)
    select(page, "combine", "max")
    assert_allclose(selected_matrix(page), cross.max((0, 1)), atol=TOLERANCE)
    page.locator("#this-layer").click()
    head_button(page, "cross", 2, 1).click()
    head_button(page, "cross", 0, 4).click()
    chosen = np.concatenate([cross[2, [0, 2, 3, 4]], cross[0, [4]]])
    assert_allclose(selected_matrix(page), chosen.max(0), atol=TOLERANCE)
    select(page, "combine", "one")
    head_button(page, "cross", 1, 1).click()
    head_button(page, "cross", 1, 3).click(modifiers=["Shift"])
    assert_allclose(selected_matrix(page), cross[1, [1, 3]].mean(0), atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_merged_to_words(kind, page, case) -> None:
    sentence = case.sentences[0]
    source, target = sentence.source_words, sentence.target_words
    read = (-1, *target[:-1])
    queries, keys = {"encoder": (source, source), "decoder": (target, read), "cross": (target, source)}[kind]
    select(page, "kind", kind)
    select(page, "tokens", "words")
    layer = getattr(sentence, kind).shape[0] - 1
    head_button(page, kind, layer, 1).click()
    merged = selected_matrix(page)
    assert_allclose(merged, merge_words(getattr(sentence, kind)[layer, 1], queries, keys), atol=3 * TOLERANCE)
    assert_allclose(merged.sum(-1), 1, atol=1e-9)
    names = page.evaluate("(() => { const m = selectedMatrix(state, sentence); return [m.queries, m.keys]; })()")
    words = {"source": [*sentence.source.split(), "[EOS]"], "target": [*sentence.translation.split(), "[EOS]"]}
    assert names[0] == words["source" if kind == "encoder" else "target"]
    assert names[1] == (words["source"] if kind != "decoder" else ["[SOS]", *words["target"][:-1]])


def test_words_are_merged_before_heads_are_combined(page, case) -> None:
    sentence = case.sentences[0]
    words = [merge_words(head, sentence.target_words, sentence.source_words) for head in sentence.cross[2]]
    page.open("#tokens=words&combine=max")
    assert_allclose(selected_matrix(page), np.max(words, 0), atol=3 * TOLERANCE)
    assert np.max(words) <= 1
    select(page, "combine", "mean")
    assert_allclose(selected_matrix(page), np.mean(words, 0), atol=3 * TOLERANCE)
    # The row of a step is not averaged with the rows of other pieces of its word.
    page.open("#tokens=words&combine=max&view=steps&step=5")
    rows = [merge_words(head[5:6], [0], sentence.source_words)[0] for head in sentence.cross[2]]
    weights = page.evaluate("Array.from(stepData(state, sentence).source.weights)")
    assert_allclose(weights, np.max(rows, 0), atol=3 * TOLERANCE)


# Table of heads


def expected_summary(weights: np.ndarray, keys: tuple[str, ...]) -> dict[str, float]:
    """Return the summary of a head by the formulas of docs/attention.md."""
    weights = weights.astype(np.float64)
    q, k = weights.shape
    position = np.arange(q)[:, None] * (k - 1) / max(q - 1, 1)
    diagonal = np.floor(position + 0.5)
    key = np.arange(k)[None]
    logarithms = np.log2(np.where(weights > 0, weights, 1))
    return {
        "entropy": -(weights * logarithms).sum(-1).mean(),
        "confidence": weights.max(-1).mean(),
        "distance": (weights * np.abs(key - position)).sum(-1).mean(),
        "diagonal": (weights * (key == diagonal)).sum(-1).mean(),
        "previous": (weights * (key == diagonal - 1)).sum(-1).mean(),
        "next": (weights * (key == diagonal + 1)).sum(-1).mean(),
        "special": weights[:, [key in ("[SOS]", "[EOS]") for key in keys]].sum(-1).mean(),
        "punctuation": weights[:, [key.strip("▁") in ("?", "。", "؟") for key in keys]].sum(-1).mean(),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [0, 1])
def test_summary_follows_the_documented_formulas(kind, number, page, case) -> None:
    sentence = case.sentences[number]
    weights = getattr(sentence, kind)
    keys = sentence.target_inputs if kind == "decoder" else sentence.source_tokens
    page.open(f"#kind={kind}&sentence={2 * number + 1}")
    summaries = page.evaluate(f"headSummaries(sentence, '{kind}', null)")
    assert len(summaries) == weights.shape[0] * weights.shape[1]
    for summary in summaries:
        for name, value in expected_summary(weights[summary["layer"], summary["head"]], keys).items():
            assert summary[name] == pytest.approx(value, abs=2e-3), name


def test_summary_can_be_sorted_and_selects_heads(page) -> None:
    page.wait_for_selector("#summary tbody tr")

    def column() -> list[float]:
        return [float(text) for text in page.locator('#summary td[data-measure="entropy"]').all_inner_texts()]

    page.locator("#summary thead").get_by_text("Entropy").click()
    assert column() == sorted(column(), reverse=True)
    page.locator("#summary thead").get_by_text("Entropy").click()
    assert column() == sorted(column())
    assert page.locator("#summary th[aria-sort=ascending]").inner_text().startswith("Entropy")
    name = page.locator("#summary tbody th").first.inner_text()
    page.locator("#summary tbody button").first.click()
    assert title(page) == f"Cross-attention, {name}"


def test_summary_includes_head_importance(page, case) -> None:
    page.wait_for_selector("#summary tbody tr")
    for measure, expected in case.importance.heads["cross"]._asdict().items():
        cells = page.locator(f'#summary td[data-measure="{measure}"]').all_inner_texts()
        assert_allclose([float(text) for text in cells], expected.ravel(), atol=0.5e-3)
        heading = page.locator(f'#summary th[data-name="{measure}"] button')
        assert "11 sentences, greedy" in heading.get_attribute("title")


def test_numbers_can_be_downloaded_as_csv(page, case) -> None:
    path, name = download(page, "#csv")
    assert name == "1.cross.layer2.head0.csv"
    first, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    sentence = case.sentences[0]
    assert first == ["", *sentence.source_tokens]
    assert [row[0] for row in rows] == list(sentence.target_tokens)
    assert_allclose([[float(cell) for cell in row[1:]] for row in rows], sentence.cross[2, 0], atol=TOLERANCE + 1e-6)
    page.wait_for_selector("#summary tbody tr")
    path, name = download(page, "#summary-csv")
    assert name == "1.cross.heads.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert len(rows) == 15
    expected = expected_summary(sentence.cross[0, 1], sentence.source_tokens)
    assert float(rows[1]["entropy"]) == pytest.approx(expected["entropy"], abs=2e-3)
    select(page, "view", "steps")
    path, name = download(page, "#csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [row["token"] for row in rows if row["part"] == "source"] == list(sentence.source_tokens)
