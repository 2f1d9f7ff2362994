"""The web page for trying a model, and its HTTP API.

    GET  /               the page
    POST /translate      {"text": "..."} -> {"lines": [...], "attention": "/attention/KEY"}; see docs/serve.md
    GET  /attention/KEY  the attention explorer (docs/attention.md) of a recent answer

Errors are {"error": "one line"}, with status 400, 404, 405, 500 or 503.
"""

from __future__ import annotations

import asyncio
import html
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from transformer_jax.attention.explorer import Html, render_page
from transformer_jax.data.languages import find_language
from transformer_jax.decoding.translator import Translation, Translator
from transformer_jax.errors import InputError, RunError
from transformer_jax.serve.batching import Batcher, shutdown_error

MAX_CHARACTERS, MAX_LINES = 2_000, 20
"""Limits of the text in one request; they also bound the number of its sentences."""
MAX_BODY_BYTES = 100 + 12 * MAX_CHARACTERS
"""Limit of a request body: JSON may write one character as two escapes of six bytes."""
MAX_KEPT_ANSWERS = 256
"""Number of recent answers whose attention can be requested."""
SHUTDOWN_TIMEOUT = 5
"""Seconds that running requests have to finish when the server shuts down."""
PAGE_DIRECTORY = Path(__file__).parent / "page"


class Site:
    """The web application. As a context manager, it answers requests until the block ends.

    beam: beam size; all hypotheses are returned. Default: the beam size of the run.
    """

    def __init__(self, translator: Translator, beam: int | None = None) -> None:
        self._translator = translator
        self._beam = translator.config.decoding.beam if beam is None else beam
        self._batcher = Batcher(self.translate_requests)
        self._render_executor = ThreadPoolExecutor(1)  # Parallel renderings would cost memory and save no time.
        self._kept_answers: dict[str, list[Translation]] = {}
        self.app = Starlette(
            routes=[
                Route("/", self._show_page),
                Route("/translate", self._translate, methods=["POST"]),
                Route("/attention/{key}", self._show_attention),
                Mount("/page", StaticFiles(directory=PAGE_DIRECTORY)),
            ],
            middleware=[Middleware(_AnswerOnShutdown)],
            exception_handlers={
                InputError: _error_handler(400),
                RunError: _error_handler(503),
                ClientDisconnect: _error_handler(400),  # The client is gone, so the answer is irrelevant.
                HTTPException: _handle_http_exception,
                Exception: _handle_unexpected_error,
            },
        )

    def __enter__(self) -> Site:
        self._batcher.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._batcher.__exit__(*raised)
        self._render_executor.shutdown(cancel_futures=True)

    def translate_requests(self, requests: Sequence[Sequence[str]]) -> list[list[list[Translation]]]:
        """Translate the lines of all requests in one call. Return the n-best list of each line, per request."""
        lines = [line for request in requests for line in request]
        n_best_lists = iter(self._translator.translate_n_best(lines, self._beam, self._beam))
        return [[next(n_best_lists) for _ in request] for request in requests]

    async def _show_page(self, request: Request) -> Response:
        data = self._translator.config.data
        page = (PAGE_DIRECTORY / "page.html").read_text(encoding="utf-8")
        for name, value in (("source", data.source), ("target", data.target)):
            page = page.replace("{{" + name + "}}", html.escape(find_language(value).tag))
        return HTMLResponse(page)

    async def _translate(self, request: Request) -> Response:
        lines = _parse_lines(await _read_body(request))
        n_best_lists = await asyncio.wrap_future(self._batcher.submit(lines))
        return JSONResponse(
            {
                "lines": [_line_data(line, n_best) for line, n_best in zip(lines, n_best_lists, strict=True)],
                "attention": self._keep_answer([best for best, *_ in n_best_lists]),
            }
        )

    def _keep_answer(self, translations: list[Translation]) -> str | None:
        """Store an answer. Return the unguessable path of its attention, or None if it has no attention."""
        if not any(translation.sentences for translation in translations):
            return None
        key = secrets.token_urlsafe(16)
        self._kept_answers[key] = translations
        if len(self._kept_answers) > MAX_KEPT_ANSWERS:
            del self._kept_answers[next(iter(self._kept_answers))]
        return f"/attention/{key}"

    async def _show_attention(self, request: Request) -> Response:
        translations = self._kept_answers.get(request.path_params["key"])
        if translations is None:
            return JSONResponse({"error": "this translation has been discarded. Translate the text again."}, 404)
        loop = asyncio.get_running_loop()
        return HTMLResponse(await loop.run_in_executor(self._render_executor, self._render_explorer, translations))

    def _render_explorer(self, translations: Sequence[Translation]) -> Html:
        return render_page(
            (
                f"{number}.{index}" if translation.parts else number,
                self._translator.attention(sentence.source, sentence),
            )
            for number, translation in enumerate(translations, start=1)
            for index, sentence in enumerate(translation.sentences, start=1)
        )


def make_server(site: Site) -> uvicorn.Server:
    """Return the HTTP server of a site, which logs only warnings and errors."""
    config = uvicorn.Config(
        site.app,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
    )
    return uvicorn.Server(config)


class _AnswerOnShutdown:
    """Middleware that answers cancelled requests when the server shuts down."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            await JSONResponse({"error": str(shutdown_error())}, 503)(scope, receive, send)


async def _read_body(request: Request) -> bytes:
    """Read the complete body, but return at most slightly more than ``MAX_BODY_BYTES`` of it.

    The rest must be read, because a client that is still sending does not read the error.
    """
    body = b""
    async for chunk in request.stream():
        if len(body) <= MAX_BODY_BYTES:
            body += chunk
    return body


def _parse_lines(body: bytes) -> list[str]:
    """Return the lines to translate. Raises InputError if the text is too long, empty or not a string."""
    too_long = InputError(f"the text exceeds {MAX_CHARACTERS:,} characters or {MAX_LINES} lines. Send a shorter text.")
    if len(body) > MAX_BODY_BYTES:
        raise too_long
    try:
        text = json.loads(body)["text"]
        text.encode()  # Raises UnicodeEncodeError for half of a surrogate pair.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError('the request is invalid. Send JSON such as {"text": "Good morning."}.') from error
    # As in a file, the last line may end with "\n", and lines may end with "\r\n".
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(text) > MAX_CHARACTERS or len(lines) > MAX_LINES:
        raise too_long
    if not text.strip():
        raise InputError("the text is empty. Send some text.")
    return lines


def _line_data(line: str, n_best: Sequence[Translation]) -> dict[str, Any]:
    """Return the JSON data of one line."""
    return {
        "text": line,
        "parts": len(n_best[0].parts),
        "translations": [
            {
                "text": translation.text,
                "score": translation.score,
                "tokens": translation.tokens,
                "warnings": [warning._asdict() for warning in translation.warnings],
            }
            for translation in n_best
        ],
    }


def _error_handler(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return a handler that answers with the error's message and this status."""

    async def handle(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status)

    return handle


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    """Answer a request with an unknown path or method."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _handle_unexpected_error(request: Request, error: Exception) -> Response:
    """Answer after an unexpected error. Starlette raises it again, so the terminal shows the traceback."""
    return JSONResponse({"error": "the request failed unexpectedly. See the traceback in the server's terminal."}, 500)
