"""The explorer page, opened in a browser from disk without a network: overview, address, texts, looks and images.

After every test, the page must have requested nothing and logged nothing.
"""

import xml.etree.ElementTree

import numpy as np
import pytest
from browser import browser  # noqa: F401
from explorer_cases import HOSTILE, make_attention
from explorer_page import (  # noqa: F401
    KINDS,
    case,
    context,
    download,
    head_button,
    page,
    page_without_history,
    select,
    tab,
    title,
    violations,
)
from PIL import Image

# Imported fixtures share the names of test arguments.
# ruff: noqa: F811

# Overview


def test_grid_shows_every_head_and_a_click_selects_one(page, case) -> None:
    for kind in KINDS:
        layers, heads, *_ = getattr(case.sentences[0], kind).shape
        assert page.locator(f'.head[data-kind="{kind}"]').count() == layers * heads
    assert title(page) == "Cross-attention, layer 2, head 0"
    head_button(page, "encoder", 1, 3).click()
    assert title(page) == "Encoder self-attention, layer 1, head 3"
    assert head_button(page, "encoder", 1, 3).get_attribute("aria-pressed") == "true"


def test_thumbnail_is_darker_for_larger_weights(page, case) -> None:
    page.wait_for_timeout(100)
    height, width, pixels = page.evaluate(
        """() => { const c = document.querySelector('.head[data-kind="cross"]').firstChild;
        return [c.height, c.width, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]; }"""
    )
    lightness = np.reshape(pixels, (height, width, 4))[..., :3].astype(float).sum(-1)
    weights = case.sentences[0].cross[0, 0]
    assert lightness.shape == weights.shape
    order = np.argsort(weights, axis=None)
    assert (np.diff(lightness.ravel()[order]) <= 0).all()


def test_keyboard_moves_between_heads_layers_and_kinds(page) -> None:
    head_button(page, "cross", 0, 0).click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("location.hash") == "#layer=1&head=1"
    assert page.evaluate("document.activeElement.dataset.head + document.activeElement.dataset.layer") == "11"
    page.locator("#theme").focus()
    for _ in range(2):
        page.keyboard.press("Shift+ArrowUp")
    assert title(page) == "Decoder self-attention, layer 2, head 1"
    for _ in range(9):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowUp")
    assert title(page) == "Encoder self-attention, layer 0, head 4"


def test_shift_arrow_selects_another_head_from_anywhere(page) -> None:
    page.locator('input[value="cross"]').focus()
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Shift+ArrowRight")
    assert title(page) == "Cross-attention, layer 1, head 1"
    head_button(page, "cross", 1, 2).click()
    for modifier in ("altKey", "ctrlKey", "metaKey"):
        for shift in ("false", "true"):
            event = f"new KeyboardEvent('keydown', {{key: 'ArrowLeft', {modifier}: true, shiftKey: {shift}, "
            event += "bubbles: true, cancelable: true})"
            is_unhandled = page.evaluate(f"document.activeElement.dispatchEvent({event})")
            assert is_unhandled, "shortcuts of the browser must still work"
    assert title(page) == "Cross-attention, layer 1, head 2"


# Address


def test_address_stores_the_view(page) -> None:
    page.locator("#next-sentence").click()
    head_button(page, "decoder", 1, 2).click()
    select(page, "view", "lines")
    select(page, "combine", "max")
    fragment = page.evaluate("location.hash")
    before = page.locator(".detail").inner_text()
    page.open(fragment)
    assert page.locator(".detail").inner_text() == before
    assert page.evaluate("sentence.number") == 3
    assert "sentence=3&" in fragment, "the line number, independent of the other sentences on the page"
    page.evaluate("location.hash = '#view=steps'")
    assert title(page).startswith("Decoding step")


@pytest.mark.parametrize(
    "fragment",
    [
        "#sentence=2&layer=99&head=99&step=99",
        "#sentence=-1&kind=<b>&view=&chosen=9.9_x&sort=__proto__",
        "#%E0%A4%A",
        "#tokens=words&sentence=1e9",
    ],
)
def test_invalid_address_shows_a_valid_view(fragment, page) -> None:
    page.open(fragment)
    assert title(page)
    assert page.locator("#stage canvas").count() == 1


def test_view_changes_add_no_history_entries(page_without_history) -> None:
    page = page_without_history
    before = page.evaluate("history.length")
    select(page, "view", "lines")
    select(page, "kind", "encoder")
    assert page.evaluate("location.hash") == "#kind=encoder&layer=1&view=lines"
    page.evaluate("() => { history.replaceState = () => { throw new DOMException('too often', 'SecurityError'); }; }")
    select(page, "kind", "cross")
    assert title(page) == "Cross-attention, layer 1, head 0"
    assert page.evaluate("history.length") == before


# Texts


def test_hostile_sentence_is_shown_as_text(page) -> None:
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


def test_invisible_characters_are_shown_as_code_points(page) -> None:
    displayed = {
        "a b": "a␣b", "\xa0": "<U+00A0>", "\u3000": "<U+3000>", "\xad": "<U+00AD>", "\u061c": "<U+061C>",
        "\n": "<U+000A>", "می\u200cخواهم": "می\u200cخواهم", "👍🏽": "👍🏽",
    }  # fmt: skip
    assert page.evaluate("(tokens) => tokens.map(visibleToken)", list(displayed)) == list(displayed.values())


# Looks


def contrast(page, ink: str, background: str) -> float:
    """Return the contrast ratio of two colours of the page (WCAG 2.1)."""

    def luminance(name: str) -> float:
        text = page.evaluate(f"cssColour('{name}')").lstrip("#")
        channels = [int(text[start : start + 2], 16) / 255 for start in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    dark, light = sorted((luminance(ink), luminance(background)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_have_sufficient_contrast(theme, page) -> None:
    page.emulate_media(color_scheme=theme)
    page.open()
    assert page.evaluate("currentTheme()") == theme
    for ink in ("ink", "faint", "accent"):
        for background in ("panel", "ground"):
            assert contrast(page, ink, background) >= 4.5, (ink, background)
    scale = np.array(page.evaluate(f"colourScales.{theme}")) @ [0.299, 0.587, 0.114]
    assert (np.sign(np.diff(scale)) == (-1 if theme == "light" else 1)).mean() > 0.9
    assert abs(scale[0] - scale[-1]) > 180
    page.locator("#theme").click()
    assert page.evaluate("currentTheme()") == {"light": "dark", "dark": "light"}[theme]


def test_every_control_has_a_name_and_is_reached_by_tab(page) -> None:
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
    assert {"sentence", "png", "svg", "csv", "theme", "head selected", "kind", "view", "stage"} <= reached


def test_narrow_window_needs_no_horizontal_scrolling(page) -> None:
    page.set_viewport_size({"width": 420, "height": 800})
    for view in ("map", "lines", "steps"):
        page.open(f"#view={view}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 420, view


# Images and notebooks


@pytest.mark.parametrize(
    "fragment", ["", "#sentence=7&kind=encoder", "#view=lines&kind=decoder", "#view=steps&step=5", "#sentence=3"]
)
def test_every_view_can_be_downloaded_as_png_and_svg(fragment, page) -> None:
    page.open(fragment)
    path, name = download(page, "#png")
    assert name.endswith(".png")
    with Image.open(path) as image:
        assert len(image.convert("RGB").getcolors(1_000_000)) > 50, "the image must not be blank"
    path, name = download(page, "#svg")
    assert name.endswith(".svg")
    drawing = xml.etree.ElementTree.parse(path).getroot()
    texts = {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert title(page) in " ".join(map(str, texts))
    assert "[EOS]" in texts or "[SOS]" in texts
    assert not list(drawing.iter("{http://www.w3.org/2000/svg}image"))


def test_page_works_in_the_frame_of_a_notebook(page_without_history, tmp_path) -> None:
    page = page_without_history
    attention = make_attention((HOSTILE, "▁駅", "[EOS]"), seed=2)
    notebook = f"<!doctype html><title>x</title>{attention._repr_html_()}"
    (tmp_path / "notebook.html").write_text(notebook, encoding="utf-8")
    page.goto((tmp_path / "notebook.html").as_uri())
    before = page.evaluate("history.length")
    frame = page.frame_locator("iframe")
    frame.locator('.head[data-kind="decoder"]').nth(2).click()
    assert frame.locator("#title").inner_text() == "Decoder self-attention, layer 0, head 2"
    assert page.evaluate("history.length") == before, "the history of the notebook must not change"
    assert page.frames[1].evaluate("location.hash") == "#kind=decoder&layer=0&head=2"
    frame.locator('input[value="lines"]').check(force=True)
    assert frame.locator(".query .token").count() == len(attention.target_tokens)
