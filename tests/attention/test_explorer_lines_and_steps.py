"""The views "lines" and "steps" of the explorer page, used with keyboard and mouse."""

import pytest
from browser import browser  # noqa: F401
from explorer_cases import ARABIC, JAPANESE, make_attention
from explorer_page import (  # noqa: F401
    TOLERANCE,
    case,
    context,
    head_button,
    page,
    select,
    selected_matrix,
    tab,
    title,
    violations,
)
from numpy.testing import assert_allclose

from transformer_jax.attention.explorer import open_page

# Imported fixtures share the names of test arguments.
# ruff: noqa: F811

# Lines


def test_focused_token_shows_its_keys_and_queries(page, case) -> None:
    select(page, "view", "lines")
    assert page.locator(".key .token").all_inner_texts() == list(case.sentences[0].source_tokens)
    assert page.locator(".query .token").all_inner_texts() == list(case.sentences[0].target_tokens)
    page.locator(".query .token").nth(4).focus()
    row = case.sentences[0].cross[2, 0, 4]
    largest = page.locator("#readout .number").first.inner_text()
    assert float(largest) == pytest.approx(row.max(), abs=TOLERANCE + 0.5e-4)
    assert page.locator("#readout bdi").nth(1).inner_text() == case.sentences[0].source_tokens[row.argmax()]
    select(page, "kind", "encoder")
    page.locator(".key .token").nth(1).hover()
    for arrow in ("ArrowRight", "ArrowLeft"):
        page.keyboard.press(f"Shift+{arrow}")
    assert page.locator(".lines .focused").count() == 2, "the focus is kept when the head changes"
    assert page.locator("#readout").inner_text().count("▁is attends to") == 1
    assert page.locator("#readout").inner_text().count("▁is is attended to by") == 1
    lines = page.evaluate("linesToDraw(selectedMatrix(state, sentence), {query: 1, key: 1})")
    assert {line["role"] for line in lines} == {"from-query", "to-key"}
    assert {line["weight"] for line in lines if line["query"] == 1} <= set(selected_matrix(page)[1])


def test_arrow_keys_move_between_tokens_and_keep_the_focus(page, case) -> None:
    select(page, "view", "lines")
    assert page.locator(".key [tabindex='0']").count() == page.locator(".query [tabindex='0']").count() == 1
    page.locator(".query .token").nth(1).focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp", "Alt+ArrowUp"):
        page.keyboard.press(key)
    focused = "[document.activeElement.closest('ol')?.className, document.activeElement.textContent]"
    assert page.evaluate(focused) == ["key", case.sentences[0].source_tokens[2]]
    page.set_viewport_size({"width": 1000, "height": 700})
    page.wait_for_timeout(50)
    page.keyboard.press("Shift+ArrowRight")
    assert title(page) == "Cross-attention, layer 2, head 1"
    assert page.evaluate(focused) == ["key", case.sentences[0].source_tokens[2]]
    assert "▁the is attended to by" in page.locator("#readout").inner_text()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == ["key", case.sentences[0].source_tokens[2]], "Tab returns to the token"


def test_line_width_is_proportional_to_the_weight(page, case) -> None:
    drawn = page.evaluate(
        """(() => { const curves = []; const matrix = selectedMatrix(state, sentence);
        const surface = { curve: (x1, y1, x2, y2, colour, width) => curves.push([y1, y2, width]) };
        drawLines(surface, linesToDraw(matrix, {}), 0, 100, 0, 1e6); return curves; })()"""
    )
    weights = case.sentences[0].cross[2, 0]
    assert len(drawn) == (weights >= 0.01).sum()
    for y1, y2, width in drawn:
        assert width == pytest.approx(max(0.6, 9 * weights[round(y2 / 24 - 0.5), round(y1 / 24 - 0.5)]), abs=1e-3)


# Steps


def test_steps_show_weights_and_most_probable_tokens(page, case) -> None:
    sentence = case.sentences[0]
    select(page, "view", "steps")
    for _ in range(3):
        page.get_by_label("Next step").click()
    assert page.locator(".strip .current").inner_text() == sentence.target_tokens[3]
    parts = page.locator(".steps section")
    source, prefix = (parts.nth(n).locator(".chip") for n in (0, 1))

    def weights_of(chips) -> list[float]:
        return [float(chip.get_attribute("title").rsplit(": ")[-1]) for chip in chips.all()]

    assert source.locator("bdi").all_inner_texts() == list(sentence.source_tokens)
    assert prefix.locator("bdi").all_inner_texts() == ["[SOS]", *sentence.target_tokens[:3]]
    assert_allclose(weights_of(source), sentence.cross[2, 0, 3], atol=TOLERANCE + 0.5e-4)
    assert_allclose(weights_of(prefix), sentence.decoder[2, 0, 3, :4], atol=TOLERANCE + 0.5e-4)
    bars = parts.nth(2).locator("li")
    assert bars.locator("bdi").all_inner_texts()[:5] == list(sentence.alternatives[3])
    probabilities = [float(text.split()[0]) for text in bars.locator(".number").all_inner_texts()[:5]]
    assert_allclose(probabilities, sentence.alternative_probabilities[3], atol=0.5e-4 + 1e-6)
    assert "chosen" in bars.first.inner_text()
    page.locator(".strip .token").nth(7).click()
    assert page.evaluate("location.hash").endswith("step=7")
    select(page, "tokens", "words")
    chips = parts.nth(0).locator(".chip")
    assert chips.locator("bdi").all_inner_texts() == [*sentence.source.split(), "[EOS]"]


def test_keyboard_moves_between_steps_and_sentences(page) -> None:
    page.open("#view=steps&step=9")
    page.get_by_label("Next step").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator(".step-number").inner_text() == "step 10 (0 to 10)"
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Next step", "the button keeps the focus at the last step"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("[document.activeElement.textContent, state.step]") == ["Da", 8]
    assert page.locator(".strip [tabindex='0']").count() == 1
    page.open("#view=steps&sentence=3&step=2")
    page.locator(".strip .current").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("state.step") == 3, "Arabic runs from right to left"
    page.locator("#next-sentence").focus()
    for _ in range(3):
        page.keyboard.press("Enter")
    assert page.evaluate("[document.activeElement.id, sentence.number]") == ["next-sentence", 7]


def test_steps_replace_a_head_of_the_encoder(page) -> None:
    # The encoder has no steps, and fewer layers than the decoder.
    page.open("#view=steps&kind=encoder&layer=1&head=3")
    assert title(page) == "Encoder self-attention, layer 1, head 3"
    assert page.locator("#stage canvas").count() == 1
    select(page, "view", "steps")
    assert title(page) == "Decoding step, layer 1, head 3"
    head_button(page, "encoder", 0, 2).click()
    assert title(page) == "Encoder self-attention, layer 0, head 2"


def test_unfinished_words_are_named_after_their_pieces(page) -> None:
    page.open("#view=steps&tokens=words&step=5")  # "hof" is predicted here, "?" is predicted later.
    prefix = page.locator(".steps section").nth(1).locator(".chip bdi")
    assert prefix.all_inner_texts() == ["[SOS]", "Wo", "ist", "der", "alte", "Bahn"]
    page.open("#view=steps&tokens=words&step=7")
    assert prefix.all_inner_texts() == ["[SOS]", "Wo", "ist", "der", "alte", "Bahnhof?"]


def test_sentences_with_the_same_number_have_their_own_steps(page, tmp_path) -> None:
    with open_page(tmp_path / "two.html") as writer:
        writer.add(1, make_attention())
        writer.add(1, make_attention(JAPANESE, ARABIC))
    page.goto((tmp_path / "two.html").as_uri() + "#view=steps")
    page.locator("#next-sentence").click()
    assert page.locator(".strip .token").all_inner_texts() == list(ARABIC)


def test_each_text_has_its_own_direction(page) -> None:
    page.open("#sentence=3&view=steps&step=2")
    assert page.locator("#source").get_attribute("dir") == "ltr"
    assert page.locator("#translation").get_attribute("dir") == "rtl"
    left = [box["x"] for box in (token.bounding_box() for token in page.locator(".strip .token").all())]
    assert left == sorted(left, reverse=True), "Arabic tokens run from right to left"
    left = [chip.bounding_box()["x"] for chip in page.locator(".steps section").first.locator(".chip").all()]
    assert left == sorted(left), "Japanese tokens run from left to right"
    select(page, "view", "lines")
    directions = page.evaluate("[...document.querySelectorAll('.query bdi')].map((e) => getComputedStyle(e).direction)")
    assert directions[:3] == ["rtl"] * 3
    assert page.locator(".key .token").all_inner_texts() == list(JAPANESE)
