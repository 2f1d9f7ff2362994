"""The page in a browser, used with keyboard and mouse. It requests nothing from other servers."""

from collections.abc import Iterator

import pytest
from browser import browser, record_violations  # noqa: F401
from site_cases import LONG, TEXTS, server  # noqa: F401

from transformer_jax import Translator

# Imported fixtures share the names of test arguments.
# ruff: noqa: F811
HOSTILE = "<img src=//x>"


@pytest.fixture
def page(browser, server) -> Iterator:
    """Open the page; after the test, fail if the browser logged messages or requested anything from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(20_000)  # The first translations compile programs.
    page.violations = record_violations(context, (f"{server.url}/", "blob:", "data:"))
    page.goto(server.url)
    yield page
    context.close()
    assert not page.violations


def translate(page, text: str) -> None:
    page.get_by_label("Text").fill(text)
    page.get_by_role("button", name="Translate").click()


def explorer(page):
    return page.frame_locator("iframe[title='Attention explorer']")


def test_sentence_is_translated_and_every_head_is_shown(page, server) -> None:
    [expected] = Translator.translate_n_best(server.translator, [TEXTS[0]], 3)
    assert page.get_by_role("heading").inner_text() == "Translate English to German"
    page.keyboard.type(TEXTS[0])  # The text field has the focus.
    page.keyboard.press("Control+Enter")
    page.locator("article").wait_for()
    assert page.locator(".translation").inner_text() == expected[0].text
    items = page.locator(".n-best li").all_inner_texts()
    assert [item.split("\n") for item in items] == [[f"{best.score:.3f}", best.text] for best in expected]
    explorer(page).locator(".head").first.wait_for()
    assert explorer(page).locator(".head").count() == (1 + 2 + 2) * 2, "encoder, decoder and cross-attention, 2 heads"
    assert explorer(page).locator("#source").inner_text() == TEXTS[0]
    assert explorer(page).locator("#translation").inner_text() == expected[0].text


def test_explorer_works_in_its_frame_and_in_a_new_tab(page) -> None:
    translate(page, "\n".join(TEXTS[:2]))
    frame = explorer(page)
    frame.locator('.head[data-kind="decoder"][data-layer="1"][data-head="1"]').click()
    assert frame.locator("#title").inner_text() == "Decoder self-attention, layer 1, head 1"
    frame.get_by_label("Next sentence").click()
    assert frame.locator("#source").inner_text() == TEXTS[1]
    with page.expect_download() as download:
        frame.get_by_role("button", name="CSV").first.click()
    assert download.value.suggested_filename.endswith(".csv")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open in a new tab").click()
    opened.value.locator(".head").first.wait_for()
    assert opened.value.locator("#source").inner_text() == TEXTS[0]


def test_each_line_is_translated_and_each_sentence_shown(page) -> None:
    translate(page, f"{TEXTS[0]}\n{LONG}\n")
    page.locator("article").nth(1).wait_for()
    assert page.locator("article").count() == 2
    explorer(page).locator(".head").first.wait_for()
    numbers = [name.split()[0] for name in explorer(page).locator("#sentence option").all_text_contents()]
    assert numbers == ["1", "2.1", "2.2", "2.3"]
    translate(page, "!!!")
    page.locator("article").nth(1).wait_for(state="detached")
    assert page.locator("iframe").count() == 0


def test_error_message_replaces_the_translation(page) -> None:
    translate(page, TEXTS[0])
    page.locator("article").wait_for()
    translate(page, "a" * 2_001)
    page.get_by_role("alert").wait_for()
    assert page.get_by_role("alert").text_content() == (
        "the text exceeds 2,000 characters or 20 lines. Send a shorter text."
    )
    assert page.locator("article, iframe").count() == 0
    # Chromium itself logs failed requests.
    assert [text for text in page.violations if "400 (Bad Request)" not in text] == []
    page.violations.clear()
    translate(page, TEXTS[0])
    page.locator("article").wait_for()
    assert page.get_by_role("alert").count() == 0


def test_unreachable_server_is_reported(page) -> None:
    page.route("**/translate", lambda route: route.abort())
    translate(page, TEXTS[0])
    page.get_by_role("alert").wait_for()
    assert page.get_by_role("alert").text_content() == "The server does not respond. Restart it."
    page.violations.clear()  # Chromium itself logs failed requests.


def test_hostile_text_is_shown_as_text(page) -> None:
    translate(page, HOSTILE)
    page.locator("article").wait_for()
    assert page.locator("article .note").first.inner_text() == HOSTILE
    explorer(page).locator(".head").first.wait_for()
    assert explorer(page).locator("#source").inner_text() == HOSTILE
    assert page.locator("img").count() == explorer(page).locator("img").count() == 0
