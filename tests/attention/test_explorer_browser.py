"""The page in a browser, opened from disk with the network off: what it shows are the numbers of the arrays.

The page's own script has no other tests: its functions of numbers are called in the browser and compared with numpy,
and everything else is clicked, typed and read as a reader would. After every test, the browser must have asked for
nothing and complained of nothing.
"""

import csv
import io
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from browser import browser  # noqa: F401
from explorer_cases import ARABIC, HOSTILE, JAPANESE, make_attention
from numpy.testing import assert_allclose
from PIL import Image

from transformer_jax.attention.explorer import open_page
from transformer_jax.attention.head_importance import Ablation, Changes
from transformer_jax.attention.weights import Attention
from transformer_jax.attention.words import merge_words

STEP = 1.01 / 65535
"""How far a weight of the page may be from that of the .npz file."""
KINDS = ("encoder", "decoder", "cross")
LONG = tuple(f"▁word{number}" if number % 7 else f"▁Donaudampfschifffahrt{number}" for number in range(199))


class Case(NamedTuple):
    """The page, and what it was made from, read back from the .npz files."""

    path: Path
    ablation: Ablation
    sentences: list[Attention]


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    """Lines 1, 3, 5 and 7; the third has 200 tokens on both sides and heads of a base model."""
    folder = tmp_path_factory.mktemp("explorer")
    long = (*LONG, "[EOS]")
    sentences = {
        1: make_attention(seed=1),
        3: make_attention(JAPANESE, ARABIC, seed=3),
        5: make_attention(long, long, seed=5, layers=(6, 6), heads=8),
        7: make_attention((HOSTILE, "<b>&amp;", "\u202eabc", "", "[EOS]"), ("[EOS]",), seed=7, source_text=HOSTILE),
    }
    random = np.random.default_rng(0)
    changes = {kind: Changes(*random.standard_normal((2, 2 if kind == "encoder" else 3, 5))) for kind in KINDS}
    ablation = Ablation(sentences=11, beam=1, loss=1.0, bleu=30.0, signature="", heads=changes)
    with open_page(folder / "index.html", ablation) as page:
        for number, attention in sentences.items():
            attention.save(folder / f"{number}.npz")
            page.add(number, attention)
    return Case(folder / "index.html", ablation, [Attention.load(folder / f"{number}.npz") for number in sentences])


@pytest.fixture
def page(browser, case) -> Iterator:  # noqa: F811
    """The page, opened; ``page.open(address)`` shows another view."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "blob:", "about:")) else complaints.append(request.url)
        ),
    )

    def open_at(address: str = "") -> None:
        page.goto("about:blank")
        page.goto(case.path.as_uri() + address)

    page.open = open_at
    page.open()
    yield page
    requests = [
        entry["name"] for entry in page.evaluate("performance.getEntriesByType('resource').map((e) => e.toJSON())")
    ]
    context.close()
    assert not complaints
    assert not requests


def head(page, kind: str, layer: int, number: int):
    return page.locator(f'.head[data-kind="{kind}"][data-layer="{layer}"][data-head="{number}"]')


def choose(page, name: str, value: str) -> None:
    page.locator(f'input[name="{name}"][value="{value}"]').check(force=True)


def point_at(page, query: int, key: int) -> None:
    """Move the mouse to a cell of the heat map, which must be in sight."""
    layout = page.evaluate("onPage(matrixOf(state, sentence))")
    box = page.locator("#stage").bounding_box()
    scrolled = page.evaluate("[element('stage').scrollLeft, element('stage').scrollTop]")
    x, y = (layout[edge] + (place + 0.5) * layout["cell"] for edge, place in (("left", key), ("top", query)))
    page.mouse.move(box["x"] + x - scrolled[0], box["y"] + y - scrolled[1])


def weight(page) -> float:
    return float(page.locator("#weight").inner_text())


def matrix(page, expression: str) -> np.ndarray:
    found = page.evaluate(f"(() => {{ const m = {expression}; return {{...m, values: Array.from(m.values)}}; }})()")
    return np.reshape(found["values"], (found["rows"], found["columns"]))


# Overview


def test_every_head_is_in_the_grid_and_a_click_enlarges_it(page, case) -> None:
    for kind in KINDS:
        layers, heads, *_ = getattr(case.sentences[0], kind).shape
        assert page.locator(f'.head[data-kind="{kind}"]').count() == layers * heads
    assert page.locator("h2#title").inner_text() == "Cross-attention, layer 2, head 0"
    head(page, "encoder", 1, 3).click()
    assert page.locator("h2#title").inner_text() == "Encoder self-attention, layer 1, head 3"
    assert head(page, "encoder", 1, 3).get_attribute("aria-pressed") == "true"


def test_a_thumbnail_is_the_head_in_small(page, case) -> None:
    page.wait_for_timeout(100)
    pixels = np.array(
        page.evaluate(
            """() => { const c = document.querySelector('.head[data-kind="cross"]').firstChild;
            return [c.height, c.width, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]; }"""
        ),
        dtype=object,
    )
    lightness = np.reshape(pixels[2], (pixels[0], pixels[1], 4))[..., :3].astype(float).sum(-1)
    weights = case.sentences[0].cross[0, 0]
    assert lightness.shape == weights.shape
    order = np.argsort(weights, axis=None)
    assert (np.diff(lightness.ravel()[order]) <= 0).all(), "the larger the weight, the darker"


def test_the_keyboard_moves_between_heads_layers_and_kinds(page) -> None:
    head(page, "cross", 0, 0).click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("location.hash") == "#layer=1&head=1"
    assert page.evaluate("document.activeElement.dataset.head + document.activeElement.dataset.layer") == "11"
    page.locator("#theme").focus()
    for _ in range(2):
        page.keyboard.press("Shift+ArrowUp")
    assert page.locator("h2#title").inner_text() == "Decoder self-attention, layer 2, head 1"
    for _ in range(9):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowUp")
    assert page.locator("h2#title").inner_text() == "Encoder self-attention, layer 0, head 4"


def test_the_address_is_the_view(page) -> None:
    page.locator("#next-sentence").click()
    head(page, "decoder", 1, 2).click()
    choose(page, "view", "lines")
    choose(page, "combine", "max")
    address = page.evaluate("location.hash")
    seen = page.locator(".enlarged").inner_text()
    page.open(address)
    assert page.locator(".enlarged").inner_text() == seen
    assert page.evaluate("sentence.number") == 3
    assert "sentence=3&" in address, "the number of the line, whatever else is on the page"
    page.evaluate("location.hash = '#view=steps'")
    assert page.locator("#title").inner_text().startswith("Step by step")


@pytest.mark.parametrize(
    "address",
    [
        "#sentence=2&layer=99&head=99&step=99",
        "#sentence=-1&kind=<b>&view=&chosen=9.9_x&sort=__proto__",
        "#%E0%A4%A",
        "#tokens=words&sentence=1e9",
    ],
)
def test_an_address_that_makes_no_sense_shows_something_that_does(address, page) -> None:
    page.open(address)
    assert page.locator("h2#title").inner_text()
    assert page.locator("#stage canvas").count() == 1


def test_the_view_is_kept_but_not_in_the_history(page) -> None:
    before = page.evaluate("history.length")
    choose(page, "view", "lines")
    choose(page, "kind", "encoder")
    assert page.evaluate("location.hash") == "#kind=encoder&layer=1&view=lines"
    page.evaluate("() => { history.replaceState = () => { throw new DOMException('too often', 'SecurityError'); }; }")
    choose(page, "kind", "cross")
    assert page.locator("#title").inner_text() == "Cross-attention, layer 1, head 0"
    assert page.evaluate("history.length") == before


def test_shift_and_an_arrow_leads_to_another_head_from_anywhere(page) -> None:
    page.locator('input[value="cross"]').focus()
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#title").inner_text() == "Cross-attention, layer 1, head 1"
    head(page, "cross", 1, 2).click()
    for keys in ("altKey", "ctrlKey", "metaKey"):
        for shift in ("false", "true"):
            event = f"new KeyboardEvent('keydown', {{key: 'ArrowLeft', {keys}: true, shiftKey: {shift}, "
            event += "bubbles: true, cancelable: true})"
            assert page.evaluate(f"document.activeElement.dispatchEvent({event})"), "the browser's own"
    assert page.locator("#title").inner_text() == "Cross-attention, layer 1, head 2"


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (420, 800)])
def test_the_head_that_is_enlarged_is_in_sight(width, height, page) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.locator("#sentence").select_option("2")
    for layer in (5, 1, 3):
        page.evaluate(f"change({{ layer: {layer}, head: 7 }})")
        box, nav = head(page, "cross", layer, 7).bounding_box(), page.locator("nav").bounding_box()
        assert nav["y"] <= box["y"] <= box["y"] + box["height"] <= min(nav["y"] + nav["height"], height) + 0.5, layer
    assert page.evaluate("scrollY") == 0


# Numbers


@pytest.mark.parametrize("kind", KINDS)
def test_all_numbers_are_those_of_the_npz(kind, page, case) -> None:
    weights = getattr(case.sentences[0], kind)
    for layer, number in np.ndindex(*weights.shape[:2]):
        found = matrix(page, f"decoded(sentence, '{kind}').head({layer}, {number})")
        assert_allclose(found, weights[layer, number], atol=STEP)
        assert_allclose(found.sum(-1), 1, atol=1e-12)


def test_the_weight_under_the_mouse_is_that_of_the_npz(page, case) -> None:
    for kind, layer, number in (("cross", 2, 0), ("encoder", 1, 3), ("decoder", 0, 4)):
        head(page, kind, layer, number).click()
        weights = getattr(case.sentences[0], kind)[layer, number]
        for query, key in ((0, 0), (1, 2), (5, 3), (6, 6)):
            point_at(page, query, key)
            assert weight(page) == pytest.approx(weights[query, key], abs=STEP + 0.5e-5)
    shown = page.locator("#readout").inner_text()
    assert "? reads hof with weight" in shown
    assert "? attends to" in shown
    assert "hof is attended to by" in shown


def test_a_name_at_the_edge_stands_for_its_row_or_column(page) -> None:
    layout = page.evaluate("onPage(matrixOf(state, sentence))")
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + layout["left"] - 15, box["y"] + layout["top"] + 2.5 * layout["cell"])
    assert page.locator("#readout p").all_inner_texts() == ["▁der attends to"]
    slant = np.radians(55)
    x, y = layout["left"] + 3.5 * layout["cell"] + 30 * np.cos(slant), layout["top"] - 7 - 30 * np.sin(slant)
    page.mouse.move(box["x"] + x, box["y"] + y)
    assert page.locator("#readout p").all_inner_texts() == ["▁old is attended to by"]


def test_arrow_keys_read_weights_without_a_mouse(page, case) -> None:
    stage = page.locator("#stage")
    assert stage.get_attribute("role") == "application", "else a screen reader keeps arrow keys to itself"
    stage.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp"):  # the first one only begins, at 0, 0
        page.keyboard.press(key)
    assert weight(page) == pytest.approx(case.sentences[0].cross[2, 0, 0, 1], abs=STEP + 0.5e-5)
    choose(page, "view", "steps")
    assert stage.get_attribute("role") == "group", "else it would not read the text"


def test_a_tap_reads_the_weight_below_it(browser, case) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": 420, "height": 800}, offline=True, has_touch=True)
    page = context.new_page()
    page.goto(case.path.as_uri())
    layout = page.evaluate("onPage(matrixOf(state, sentence))")
    x, y = (layout[edge] + (place + 0.5) * layout["cell"] for edge, place in (("left", 2), ("top", 3)))
    page.locator("#stage").tap(position={"x": x, "y": y})
    assert weight(page) == pytest.approx(case.sentences[0].cross[2, 0, 3, 2], abs=STEP + 0.5e-5)
    context.close()


def test_what_is_pointed_at_stays_pointed_at_from_head_to_head(page, case) -> None:
    point_at(page, 3, 2)
    page.keyboard.press("Shift+ArrowRight")
    assert weight(page) == pytest.approx(case.sentences[0].cross[2, 1, 3, 2], abs=STEP + 0.5e-5)
    page.set_viewport_size({"width": 1000, "height": 700})
    page.wait_for_timeout(50)
    assert weight(page) == pytest.approx(case.sentences[0].cross[2, 1, 3, 2], abs=STEP + 0.5e-5)
    choose(page, "kind", "decoder")
    assert page.locator("#weight").count() == 0, "another kind has other cells"


def test_heads_are_combined(page, case) -> None:
    cross = case.sentences[0].cross
    choose(page, "combine", "mean")
    assert_allclose(matrix(page, "matrixOf(state, sentence)"), cross[2].mean(0), atol=STEP)
    page.locator("#all-layers").click()
    assert page.locator("h2#title").inner_text() == "Cross-attention, mean of 15 heads"
    assert_allclose(matrix(page, "matrixOf(state, sentence)"), cross.mean((0, 1)), atol=STEP)
    choose(page, "combine", "max")
    assert_allclose(matrix(page, "matrixOf(state, sentence)"), cross.max((0, 1)), atol=STEP)
    page.locator("#this-layer").click()
    head(page, "cross", 2, 1).click()
    head(page, "cross", 0, 4).click()
    chosen = np.concatenate([cross[2, [0, 2, 3, 4]], cross[0, [4]]])
    assert_allclose(matrix(page, "matrixOf(state, sentence)"), chosen.max(0), atol=STEP)
    choose(page, "combine", "one")
    head(page, "cross", 1, 1).click()
    head(page, "cross", 1, 3).click(modifiers=["Shift"])
    assert_allclose(matrix(page, "matrixOf(state, sentence)"), cross[1, [1, 3]].mean(0), atol=STEP)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_merged_to_words(kind, page, case) -> None:
    sentence = case.sentences[0]
    source, target = sentence.source_words, sentence.target_words
    read = (-1, *target[:-1])
    queries, keys = {"encoder": (source, source), "decoder": (target, read), "cross": (target, source)}[kind]
    choose(page, "kind", kind)
    choose(page, "tokens", "words")
    layer = getattr(sentence, kind).shape[0] - 1
    head(page, kind, layer, 1).click()
    found = matrix(page, "matrixOf(state, sentence)")
    assert_allclose(found, merge_words(getattr(sentence, kind)[layer, 1], queries, keys), atol=3 * STEP)
    assert_allclose(found.sum(-1), 1, atol=1e-9)
    names = page.evaluate("(() => { const m = matrixOf(state, sentence); return [m.queries, m.keys]; })()")
    words = {"source": [*sentence.source.split(), "[EOS]"], "target": [*sentence.translation.split(), "[EOS]"]}
    assert names[0] == words["source" if kind == "encoder" else "target"]
    assert names[1] == (words["source"] if kind != "decoder" else ["[SOS]", *words["target"][:-1]])


def test_a_word_of_several_heads_is_merged_in_each_of_them_first(page, case) -> None:
    sentence = case.sentences[0]
    words = [merge_words(one, sentence.target_words, sentence.source_words) for one in sentence.cross[2]]
    page.open("#tokens=words&combine=max")
    assert_allclose(matrix(page, "matrixOf(state, sentence)"), np.max(words, 0), atol=3 * STEP)
    assert np.max(words) <= 1
    choose(page, "combine", "mean")
    assert_allclose(matrix(page, "matrixOf(state, sentence)"), np.mean(words, 0), atol=3 * STEP)
    # A step's row is not averaged with those of the other pieces of its word.
    page.open("#tokens=words&combine=max&view=steps&step=5")
    rows = [merge_words(one[5:6], [0], sentence.source_words)[0] for one in sentence.cross[2]]
    assert_allclose(page.evaluate("Array.from(stepOf(state, sentence).source.weights)"), np.max(rows, 0), atol=3 * STEP)


def summary_by_hand(weights: np.ndarray, keys: tuple[str, ...]) -> dict[str, float]:
    """The formulas of docs/attention.md."""
    weights = weights.astype(np.float64)
    q, k = weights.shape
    along = np.arange(q)[:, None] * (k - 1) / max(q - 1, 1)
    diagonal = np.floor(along + 0.5)
    place = np.arange(k)[None]
    logarithms = np.log2(np.where(weights > 0, weights, 1))
    return {
        "entropy": -(weights * logarithms).sum(-1).mean(),
        "confidence": weights.max(-1).mean(),
        "distance": (weights * np.abs(place - along)).sum(-1).mean(),
        "diagonal": (weights * (place == diagonal)).sum(-1).mean(),
        "previous": (weights * (place == diagonal - 1)).sum(-1).mean(),
        "next": (weights * (place == diagonal + 1)).sum(-1).mean(),
        "special": weights[:, [key in ("[SOS]", "[EOS]") for key in keys]].sum(-1).mean(),
        "punctuation": weights[:, [key.strip("▁") in ("?", "。", "؟") for key in keys]].sum(-1).mean(),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [0, 1])
def test_the_summary_follows_its_formulas(kind, number, page, case) -> None:
    sentence = case.sentences[number]
    weights = getattr(sentence, kind)
    keys = sentence.target_inputs if kind == "decoder" else sentence.source_tokens
    page.open(f"#kind={kind}&sentence={2 * number + 1}")
    found = page.evaluate(f"summariesOf(sentence, '{kind}', null)")
    assert len(found) == weights.shape[0] * weights.shape[1]
    for one in found:
        for name, value in summary_by_hand(weights[one["layer"], one["head"]], keys).items():
            assert one[name] == pytest.approx(value, abs=2e-3), name


def test_the_summary_is_sorted_and_leads_to_its_head(page) -> None:
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
    assert page.locator("h2#title").inner_text() == f"Cross-attention, {name}"


def test_what_masking_a_head_changed_stands_beside_what_it_does(page, case) -> None:
    page.wait_for_selector("#summary tbody tr")
    for measure, expected in case.ablation.heads["cross"]._asdict().items():
        shown = page.locator(f'#summary td[data-measure="{measure}"]').all_inner_texts()
        assert_allclose([float(text) for text in shown], expected.ravel(), atol=0.5e-3)
        heading = page.locator(f'#summary th[data-name="{measure}"] button')
        assert "11 sentences, greedy" in heading.get_attribute("title")


# Lines and steps


def test_a_token_in_lines_shows_what_it_reads_and_what_reads_it(page, case) -> None:
    choose(page, "view", "lines")
    assert page.locator(".key .token").all_inner_texts() == list(case.sentences[0].source_tokens)
    assert page.locator(".query .token").all_inner_texts() == list(case.sentences[0].target_tokens)
    page.locator(".query .token").nth(4).focus()
    row = case.sentences[0].cross[2, 0, 4]
    shown = page.locator("#readout .number").first.inner_text()
    assert float(shown) == pytest.approx(row.max(), abs=STEP + 0.5e-4)
    assert page.locator("#readout bdi").nth(1).inner_text() == case.sentences[0].source_tokens[row.argmax()]
    choose(page, "kind", "encoder")
    page.locator(".key .token").nth(1).hover()
    for arrow in ("ArrowRight", "ArrowLeft"):
        page.keyboard.press(f"Shift+{arrow}")
    assert page.locator(".lines .focused").count() == 2, "it stays from head to head"
    assert page.locator("#readout").inner_text().count("▁is attends to") == 1
    assert page.locator("#readout").inner_text().count("▁is is attended to by") == 1
    lines = page.evaluate("linesOf(matrixOf(state, sentence), {query: 1, key: 1})")
    assert {line["role"] for line in lines} == {"reads", "read"}
    assert {line["weight"] for line in lines if line["query"] == 1} <= set(matrix(page, "matrixOf(state, sentence)")[1])


def test_arrow_keys_go_from_token_to_token_and_the_focus_stays(page, case) -> None:
    choose(page, "view", "lines")
    assert page.locator(".key [tabindex='0']").count() == page.locator(".query [tabindex='0']").count() == 1
    page.locator(".query .token").nth(1).focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp", "Alt+ArrowUp"):
        page.keyboard.press(key)
    focused = "[document.activeElement.closest('ol')?.className, document.activeElement.textContent]"
    assert page.evaluate(focused) == ["key", case.sentences[0].source_tokens[2]]
    page.set_viewport_size({"width": 1000, "height": 700})
    page.wait_for_timeout(50)
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#title").inner_text() == "Cross-attention, layer 2, head 1"
    assert page.evaluate(focused) == ["key", case.sentences[0].source_tokens[2]]
    assert "▁the is attended to by" in page.locator("#readout").inner_text()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == ["key", case.sentences[0].source_tokens[2]], "Tab leads back to it"


def test_lines_are_as_thick_as_their_weights(page, case) -> None:
    drawn = page.evaluate(
        """(() => { const found = []; const matrix = matrixOf(state, sentence);
        const surface = { curve: (x1, y1, x2, y2, colour, thickness) => found.push([y1, y2, thickness]) };
        drawLines(surface, linesOf(matrix, {}), 0, 100, 0, 1e6); return found; })()"""
    )
    weights = case.sentences[0].cross[2, 0]
    assert len(drawn) == (weights >= 0.01).sum()
    for y1, y2, thickness in drawn:
        assert thickness == pytest.approx(max(0.6, 9 * weights[round(y2 / 24 - 0.5), round(y1 / 24 - 0.5)]), abs=1e-3)


def test_the_generation_is_stepped_through(page, case) -> None:
    sentence = case.sentences[0]
    choose(page, "view", "steps")
    for _ in range(3):
        page.get_by_label("Next step").click()
    assert page.locator(".strip .current").inner_text() == sentence.target_tokens[3]
    parts = page.locator(".steps section")
    source, prefix = (parts.nth(n).locator(".chip") for n in (0, 1))
    assert source.locator("bdi").all_inner_texts() == list(sentence.source_tokens)
    assert prefix.locator("bdi").all_inner_texts() == ["[SOS]", *sentence.target_tokens[:3]]
    shown = [float(one.get_attribute("title").rsplit(": ")[-1]) for one in source.all()]
    assert_allclose(shown, sentence.cross[2, 0, 3], atol=STEP + 0.5e-4)
    shown = [float(one.get_attribute("title").rsplit(": ")[-1]) for one in prefix.all()]
    assert_allclose(shown, sentence.decoder[2, 0, 3, :4], atol=STEP + 0.5e-4)
    bars = parts.nth(2).locator("li")
    assert bars.locator("bdi").all_inner_texts()[:5] == list(sentence.alternatives[3])
    shown = [float(text.split()[0]) for text in bars.locator(".number").all_inner_texts()[:5]]
    assert_allclose(shown, sentence.alternative_probabilities[3], atol=0.5e-4 + 1e-6)
    assert "written" in bars.first.inner_text()
    page.locator(".strip .token").nth(7).click()
    assert page.evaluate("location.hash").endswith("step=7")
    choose(page, "tokens", "words")
    chips = parts.nth(0).locator(".chip")
    assert chips.locator("bdi").all_inner_texts() == [*sentence.source.split(), "[EOS]"]


def test_steps_are_gone_through_with_the_keyboard(page) -> None:
    page.open("#view=steps&step=9")
    page.get_by_label("Next step").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator(".place").inner_text() == "step 10 (0 to 10)"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Next step", "at the end too"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("[document.activeElement.textContent, state.step]") == ["Da", 8]
    assert page.locator(".strip [tabindex='0']").count() == 1
    page.open("#view=steps&sentence=3&step=2")
    page.locator(".strip .current").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("state.step") == 3, "Arabic goes on to the left"
    page.locator("#next-sentence").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.evaluate("[document.activeElement.id, sentence.number]") == ["next-sentence", 7]


def test_a_step_of_a_long_sentence_is_in_sight_and_reads_its_own_weights_alone(page) -> None:
    page.open("#view=steps&combine=max&scale=max")
    page.locator("#sentence").select_option("2")
    page.locator("#all-layers").click()
    page.evaluate("change({ step: 150 })")
    box, strip = (page.locator(one).bounding_box() for one in (".strip .current", ".strip"))
    assert strip["y"] <= box["y"] <= box["y"] + box["height"] <= strip["y"] + strip["height"]
    assert page.evaluate("state.chosen.length") == 48
    page.evaluate(
        """() => { for (const kind of ["cross", "decoder"]) decoded(sentence, kind).head = () => {
        throw new Error("40,000 weights of a head are read for 200"); }; }"""
    )
    page.get_by_label("Next step").click()
    assert page.evaluate("state.step") == 151


def test_a_step_shows_the_heads_that_its_title_names(page) -> None:
    # The encoder has fewer layers than the decoder, and no steps.
    page.open("#view=steps&kind=encoder&layer=1&head=3")
    assert page.locator("#title").inner_text() == "Encoder self-attention, layer 1, head 3"
    assert page.locator("#stage canvas").count() == 1
    choose(page, "view", "steps")
    assert page.locator("#title").inner_text() == "Step by step, layer 1, head 3"
    head(page, "encoder", 0, 2).click()
    assert page.locator("#title").inner_text() == "Encoder self-attention, layer 0, head 2"


def test_a_word_is_named_as_far_as_it_was_written(page) -> None:
    page.open("#view=steps&tokens=words&step=5")  # "hof" is being written, "?" is to come.
    prefix = page.locator(".steps section").nth(1).locator(".chip bdi")
    assert prefix.all_inner_texts() == ["[SOS]", "Wo", "ist", "der", "alte", "Bahn"]
    page.open("#view=steps&tokens=words&step=7")
    assert prefix.all_inner_texts() == ["[SOS]", "Wo", "ist", "der", "alte", "Bahnhof?"]


def test_sentences_of_one_number_have_steps_of_their_own(page, tmp_path) -> None:
    with open_page(tmp_path / "two.html") as two:
        two.add(1, make_attention())
        two.add(1, make_attention(JAPANESE, ARABIC))
    page.goto((tmp_path / "two.html").as_uri() + "#view=steps")
    page.locator("#next-sentence").click()
    assert page.locator(".strip .token").all_inner_texts() == list(ARABIC)


# Texts


def test_a_hostile_sentence_is_text(page) -> None:
    for view in ("map", "lines", "steps"):
        page.open(f"#sentence=7&view={view}&kind=encoder")
        assert page.locator("#source").inner_text() == HOSTILE
        assert page.locator("img").count() == 0
        assert page.locator("#translation").inner_text() == "(empty)"
    page.open("#sentence=7&view=lines&kind=encoder")
    assert page.locator(".key .token").all_inner_texts() == [
        HOSTILE.replace(" ", "␣"),
        "<b>&amp;",
        "<U+202E>abc",
        '""',
        "[EOS]",
    ]


def test_each_text_runs_in_its_own_direction(page) -> None:
    page.open("#sentence=3&view=steps&step=2")
    assert page.locator("#source").get_attribute("dir") == "ltr"
    assert page.locator("#translation").get_attribute("dir") == "rtl"
    left = [box["x"] for box in (one.bounding_box() for one in page.locator(".strip .token").all())]
    assert left == sorted(left, reverse=True), "Arabic tokens stand from right to left"
    left = [one.bounding_box()["x"] for one in page.locator(".steps section").first.locator(".chip").all()]
    assert left == sorted(left), "Japanese ones from left to right"
    choose(page, "view", "lines")
    directions = page.evaluate("[...document.querySelectorAll('.query bdi')].map((e) => getComputedStyle(e).direction)")
    assert directions[:3] == ["rtl"] * 3
    assert page.locator(".key .token").all_inner_texts() == list(JAPANESE)


def test_characters_that_show_nothing_are_written_out(page) -> None:
    written = {
        "a b": "a␣b", "\xa0": "<U+00A0>", "\u3000": "<U+3000>", "\xad": "<U+00AD>", "\u061c": "<U+061C>",
        "\n": "<U+000A>", "می\u200cخواهم": "می\u200cخواهم", "👍🏽": "👍🏽",
    }  # fmt: skip
    assert page.evaluate("(tokens) => tokens.map(shown)", list(written)) == list(written.values())


def test_200_tokens_open_at_once_and_scroll_to_the_end(page, case) -> None:
    ready = []
    for _ in range(3):  # Other tests may be running beside one of them.
        page.open("#sentence=5&head=3")
        ready.append(page.evaluate("new Promise((done) => requestAnimationFrame(() => done(performance.now())))"))
    assert min(ready) < 2000, "milliseconds from the start of loading to the first picture"
    size = page.evaluate("[element('stage').querySelector('canvas').width, innerWidth * devicePixelRatio]")
    assert size[0] <= size[1], "only what is in sight is drawn"
    frames = page.evaluate(
        """new Promise((done) => { const stage = element('stage'); const times = []; let last = performance.now();
        const next = () => {
          const now = performance.now(); times.push(now - last); last = now;
          if (times.length > 30) return done(times.slice(1));
          stage.scrollTop += 40; stage.scrollLeft += 40; requestAnimationFrame(next); };
        requestAnimationFrame(next); })"""
    )
    assert np.median(frames) < 50, "milliseconds a frame"
    page.evaluate("element('stage').scrollTo(1e6, 1e6); element('stage').scrollIntoView({ block: 'end' })")
    page.wait_for_timeout(50)
    point_at(page, 199, 199)
    assert weight(page) == pytest.approx(case.sentences[2].cross[5, 3, 199, 199], abs=STEP + 0.5e-5)
    choose(page, "view", "lines")
    page.locator(".query .token").nth(199).focus()
    assert "[EOS] attends to" in page.locator("#readout").inner_text()


# Looks


def contrast(page, ink: str, ground: str) -> float:
    """Relative contrast of two of the page's colours (WCAG 2.1)."""

    def luminance(name: str) -> float:
        text = page.evaluate(f"named('{name}')").lstrip("#")
        parts = [int(text[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        return float(
            np.dot(
                [0.2126, 0.7152, 0.0722], [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
            )
        )

    dark, light = sorted((luminance(ink), luminance(ground)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_light_and_dark_can_be_read(theme, page) -> None:
    page.emulate_media(color_scheme=theme)
    page.open()
    assert page.evaluate("theme()") == theme
    for ink in ("ink", "faint", "accent"):
        for ground in ("panel", "ground"):
            assert contrast(page, ink, ground) >= 4.5, (ink, ground)
    scale = np.array(page.evaluate(f"scales.{theme}")) @ [0.299, 0.587, 0.114]
    assert (np.sign(np.diff(scale)) == (-1 if theme == "light" else 1)).mean() > 0.9
    assert abs(scale[0] - scale[-1]) > 180
    page.locator("#theme").click()
    assert page.evaluate("theme()") == {"light": "dark", "dark": "light"}[theme]


def test_everything_to_click_has_a_name_and_can_be_reached(page) -> None:
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, select, input')].filter((e) => !(e.getAttribute('aria-label')
        || e.textContent.trim() || e.labels?.[0]?.textContent.trim())).map((e) => e.outerHTML)"""
    )
    assert not nameless
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.name || document.activeElement.className"
            )
        )
    assert {"sentence", "png", "svg", "csv", "theme", "head here", "kind", "view", "stage"} <= reached


def test_a_narrow_window_needs_no_sideways_scrolling(page) -> None:
    page.set_viewport_size({"width": 420, "height": 800})
    for view in ("map", "lines", "steps"):
        page.open(f"#view={view}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 420, view


# What can be taken along


def downloaded(page, button: str) -> Path:
    with page.expect_download() as waiting:
        page.locator(button).click()
    path = waiting.value.path()
    return Path(path), waiting.value.suggested_filename


def test_the_numbers_are_saved_as_csv(page, case) -> None:
    path, name = downloaded(page, "#csv")
    assert name == "1.cross.layer2.head0.csv"
    first, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    sentence = case.sentences[0]
    assert first == ["", *sentence.source_tokens]
    assert [row[0] for row in rows] == list(sentence.target_tokens)
    assert_allclose([[float(cell) for cell in row[1:]] for row in rows], sentence.cross[2, 0], atol=STEP + 1e-6)
    page.wait_for_selector("#summary tbody tr")
    path, name = downloaded(page, "#summary-csv")
    assert name == "1.cross.heads.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert len(rows) == 15
    expected = summary_by_hand(sentence.cross[0, 1], sentence.source_tokens)
    assert float(rows[1]["entropy"]) == pytest.approx(expected["entropy"], abs=2e-3)
    choose(page, "view", "steps")
    path, name = downloaded(page, "#csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [row["token"] for row in rows if row["part"] == "source"] == list(sentence.source_tokens)


@pytest.mark.parametrize(
    "address", ["", "#sentence=7&kind=encoder", "#view=lines&kind=decoder", "#view=steps&step=5", "#sentence=3"]
)
def test_every_view_is_saved_as_a_picture_and_as_a_drawing(address, page) -> None:
    page.open(address)
    path, name = downloaded(page, "#png")
    assert name.endswith(".png")
    with Image.open(path) as picture:
        assert len(picture.convert("RGB").getcolors(1_000_000)) > 50, "not blank"
    path, name = downloaded(page, "#svg")
    assert name.endswith(".svg")
    drawing = xml.etree.ElementTree.parse(path).getroot()
    texts = {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert page.locator("#title").inner_text() in " ".join(map(str, texts))
    assert "[EOS]" in texts or "[SOS]" in texts
    assert not list(drawing.iter("{http://www.w3.org/2000/svg}image"))


def test_a_notebook_shows_it_in_a_frame(page, tmp_path) -> None:
    attention = make_attention((HOSTILE, "▁駅", "[EOS]"), seed=2)
    (tmp_path / "notebook.html").write_text(
        f"<!doctype html><title>x</title>{attention._repr_html_()}", encoding="utf-8"
    )
    page.goto((tmp_path / "notebook.html").as_uri())
    before = page.evaluate("history.length")
    frame = page.frame_locator("iframe")
    frame.locator('.head[data-kind="decoder"]').nth(2).click()
    assert frame.locator("#title").inner_text() == "Decoder self-attention, layer 0, head 2"
    assert page.evaluate("history.length") == before, "the notebook's own history"
    assert page.frames[1].evaluate("location.hash") == "#kind=decoder&layer=0&head=2"
    frame.locator('input[value="lines"]').check(force=True)
    assert frame.locator(".query .token").count() == len(attention.target_tokens)
