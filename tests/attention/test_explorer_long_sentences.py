"""The explorer page with a sentence of 200 tokens and the heads of the paper's base model."""

import numpy as np
import pytest
from browser import browser  # noqa: F401
from explorer_cases import ARABIC, JAPANESE, make_attention
from explorer_page import (  # noqa: F401
    TOLERANCE,
    ExplorerCase,
    context,
    head_button,
    page,
    point_at,
    read_weight,
    select,
    tab,
    violations,
    write_case,
)

# Imported fixtures share the names of test arguments.
# ruff: noqa: F811
WORDS = tuple(f"▁word{number}" if number % 7 else f"▁Donaudampfschifffahrt{number}" for number in range(199))


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> ExplorerCase:
    """Return a page with lines 1, 3 and 5; line 5 has 200 tokens on both sides."""
    tokens = (*WORDS, "[EOS]")
    attentions = {
        1: make_attention(seed=1),
        3: make_attention(JAPANESE, ARABIC, seed=3),
        5: make_attention(tokens, tokens, seed=5, layers=(6, 6), heads=8),
    }
    return write_case(tmp_path_factory.mktemp("explorer"), attentions)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (420, 800)])
def test_selected_head_is_scrolled_into_view(width, height, page) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.locator("#sentence").select_option("2")
    for layer in (5, 1, 3):
        page.evaluate(f"updateState({{ layer: {layer}, head: 7 }})")
        box, nav = head_button(page, "cross", layer, 7).bounding_box(), page.locator("nav").bounding_box()
        assert nav["y"] <= box["y"] <= box["y"] + box["height"] <= min(nav["y"] + nav["height"], height) + 0.5, layer
    assert page.evaluate("scrollY") == 0


def test_steps_of_a_long_sentence_decode_only_single_rows(page) -> None:
    page.open("#view=steps&combine=max&scale=max")
    page.locator("#sentence").select_option("2")
    page.locator("#all-layers").click()
    page.evaluate("updateState({ step: 150 })")
    box, strip = (page.locator(selector).bounding_box() for selector in (".strip .current", ".strip"))
    assert strip["y"] <= box["y"] <= box["y"] + box["height"] <= strip["y"] + strip["height"]
    assert page.evaluate("state.chosen.length") == 48
    page.evaluate(
        """() => { for (const kind of ["cross", "decoder"]) decodedHeads(sentence, kind).head = () => {
        throw new Error("40,000 weights of a head are decoded for a row of 200"); }; }"""
    )
    page.get_by_label("Next step").click()
    assert page.evaluate("state.step") == 151


def test_200_tokens_load_quickly_and_scroll_smoothly(page, case) -> None:
    ready = []
    for _ in range(3):  # Other tests may slow down one of the attempts.
        page.open("#sentence=5&head=3")
        ready.append(page.evaluate("new Promise((done) => requestAnimationFrame(() => done(performance.now())))"))
    assert min(ready) < 2000, "milliseconds from the start of loading to the first frame"
    canvas_width, window_width = page.evaluate(
        "[element('stage').querySelector('canvas').width, innerWidth * devicePixelRatio]"
    )
    assert canvas_width <= window_width, "only the visible part is drawn"
    frames = page.evaluate(
        """new Promise((done) => { const stage = element('stage'); const times = []; let last = performance.now();
        const next = () => {
          const now = performance.now(); times.push(now - last); last = now;
          if (times.length > 30) return done(times.slice(1));
          stage.scrollTop += 40; stage.scrollLeft += 40; requestAnimationFrame(next); };
        requestAnimationFrame(next); })"""
    )
    assert np.median(frames) < 50, "milliseconds per frame"
    page.evaluate("element('stage').scrollTo(1e6, 1e6); element('stage').scrollIntoView({ block: 'end' })")
    page.wait_for_timeout(50)
    point_at(page, 199, 199)
    assert read_weight(page) == pytest.approx(case.sentences[2].cross[5, 3, 199, 199], abs=TOLERANCE + 0.5e-5)
    select(page, "view", "lines")
    page.locator(".query .token").nth(199).focus()
    assert "[EOS] attends to" in page.locator("#readout").inner_text()
