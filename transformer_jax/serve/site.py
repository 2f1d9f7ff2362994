"""The web page for trying a model, and its HTTP API.

    GET  /               the page
    POST /translate      {"text": "..."} -> {"lines": [...], "attention": "/attention/KEY"}; see docs/serve.md
    GET  /attention/KEY  the attention explorer (docs/attention.md) of a recent answer

Errors are {"error": "one line"}, with status 400, 404, 405, 500 or 503.
"""

from __future__ import annotations

import asyncio
import html
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
from transformer_jax.decoding.search import loop_devices, params_on
from transformer_jax.decoding.slots import SearchModel
from transformer_jax.decoding.translation import PreparedTexts, Translation
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError, RunError
from transformer_jax.serve.loops import Loops, shutdown_error
from transformer_jax.serve.translation_request import MAX_BODY_BYTES, TranslationRequest, parse_request

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
        self._loops = Loops(
            [
                SearchModel(translator.model, params_on(device, translator.params), translator.special_ids)
                for device in loop_devices()
            ]
        )
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
        self._loops.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._loops.__exit__(*raised)
        self._render_executor.shutdown(cancel_futures=True)

    def warm_up(self) -> None:
        """Compile the programs for short texts.

        Raises InputError for an invalid beam size, and RunError if the model outputs NaN.
        """
        prepared = self._prepare(TranslationRequest(["1"]))
        self._loops.warm_up(prepared.method, prepared.requests)
        self._translator.finish(prepared, self._loops.submit(prepared.method, prepared.requests).result())

    def _prepare(self, request: TranslationRequest) -> PreparedTexts:
        """Split the lines of a request into the sentences to search."""
        beam = self._beam if request.beam is None else request.beam
        default = beam if request.sampling is None else 1
        n_best = default if request.n_best is None else request.n_best
        return self._translator.prepare(request.lines, n_best, beam, request.length_penalty, request.sampling)

    async def _show_page(self, request: Request) -> Response:
        data = self._translator.config.data
        page = (PAGE_DIRECTORY / "page.html").read_text(encoding="utf-8")
        for name, value in (("source", data.source), ("target", data.target)):
            page = page.replace("{{" + name + "}}", html.escape(find_language(value).tag))
        return HTMLResponse(page)

    async def _translate(self, request: Request) -> Response:
        parsed = parse_request(await _read_body(request))
        # Threads split and join the texts, because long texts would delay other clients.
        prepared = await asyncio.to_thread(self._prepare, parsed)
        results = await asyncio.wrap_future(self._loops.submit(prepared.method, prepared.requests))
        n_best_lists = await asyncio.to_thread(self._translator.finish, prepared, results)
        return JSONResponse(
            {
                "lines": [_line_data(line, n_best) for line, n_best in zip(parsed.lines, n_best_lists, strict=True)],
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
