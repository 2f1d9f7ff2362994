"""Chromium for tests of web pages. CI must have it; elsewhere, tests are skipped without it."""

import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("Chromium is not installed. Run: apt-get install chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "CI needs Chromium. Run: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def record_violations(context, allowed_urls: tuple[str, ...]) -> list[str]:
    """Return a list that collects the console messages, script errors, dialogs and forbidden requests of a context.

    allowed_urls: prefixes of the URLs that may be requested.
    """
    violations: list[str] = []

    def on_dialog(dialog) -> None:
        violations.append(dialog.message)
        dialog.dismiss()

    def on_request(request) -> None:
        if not request.url.startswith(allowed_urls):
            violations.append(request.url)

    context.on("console", lambda message: violations.append(message.text))
    context.on("weberror", lambda error: violations.append(str(error.error)))
    context.on("dialog", on_dialog)
    context.on("request", on_request)
    return violations
