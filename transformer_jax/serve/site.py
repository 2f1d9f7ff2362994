"""The page, and the same as plain HTTP: text in; out come translations, and the explorer of their attention.

    GET  /               the page
    POST /translate      {"text": "..."}  ->  {"lines": [...], "attention": "/attention/KEY"}; see docs/serve.md
    GET  /attention/KEY  the explorer (docs/attention.md) of that answer, as long as it is among the last ones

What is refused or fails is {"error": "one line"}, with status 400, 404, 500 or 503.
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

from transformer_jax.attention.explorer import Html, to_html
from transformer_jax.decoding.translator import Translation, Translator
from transformer_jax.errors import InputError, RunError
from transformer_jax.serve.batching import Batcher, ending

CHARACTERS, LINES = 2_000, 20
"""The most text in one request; it also bounds the parts that long lines are split into."""
BODY = 100 + 12 * CHARACTERS
"""Bytes of a request that are looked at: JSON may spell a character as two escapes of six."""
KEPT = 256
"""Answers whose attention can be asked for."""
PATIENCE = 5
"""Seconds that requests have left to be answered once the server is asked to end."""
PAGE = Path(__file__).parent / "page"


class Site:
    """What answers requests; beam: hypotheses kept a sentence, each of which is shown.

    A context, in which it can be asked.
    """

    def __init__(self, translator: Translator, beam: int | None = None) -> None:
        self._translator = translator
        self._beam = translator.config.decoding.beam if beam is None else beam
        self._batcher = Batcher(self.translate_all)
        self._drawing = ThreadPoolExecutor(1)  # Many at once would take memory, not less time.
        self._kept: dict[str, list[Translation]] = {}
        self.app = Starlette(
            routes=[
                Route("/", self._show_page),
                Route("/translate", self._translate, methods=["POST"]),
                Route("/attention/{key}", self._show_attention),
                Mount("/page", StaticFiles(directory=PAGE)),
            ],
            middleware=[Middleware(_Ending)],
            exception_handlers={
                InputError: _error(400),
                RunError: _error(503),
                ClientDisconnect: _error(400),  # Which nobody reads.
                HTTPException: _refusal,
                Exception: _failure,
            },
        )

    def __enter__(self) -> Site:
        self._batcher.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._batcher.__exit__(*raised)
        self._drawing.shutdown(cancel_futures=True)

    def translate_all(self, requests: Sequence[Sequence[str]]) -> list[list[list[Translation]]]:
        """For each request, and each of its lines, the translations, best first: one call for all."""
        lines = [line for request in requests for line in request]
        found = iter(self._translator.translate_n_best(lines, self._beam, self._beam))
        return [[next(found) for _ in request] for request in requests]

    async def _show_page(self, request: Request) -> Response:
        data = self._translator.config.data
        page = (PAGE / "page.html").read_text(encoding="utf-8")
        for name, value in (("source", data.source), ("target", data.target)):
            page = page.replace("{{" + name + "}}", html.escape(value))
        return HTMLResponse(page)

    async def _translate(self, request: Request) -> Response:
        lines = _lines(await _body(request))
        found = await asyncio.wrap_future(self._batcher.submit(lines))
        return JSONResponse(
            {
                "lines": [_as_json(line, several) for line, several in zip(lines, found, strict=True)],
                "attention": self._keep([best for best, *_ in found]),
            }
        )

    def _keep(self, translations: list[Translation]) -> str | None:
        """Where the attention of these can be seen, if they have any. Nobody can guess another's."""
        if not any(one.has_attention for one in translations):
            return None
        key = secrets.token_urlsafe(16)
        self._kept[key] = translations
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return f"/attention/{key}"

    async def _show_attention(self, request: Request) -> Response:
        translations = self._kept.get(request.path_params["key"])
        if translations is None:
            return JSONResponse({"error": "this translation is no longer kept. Translate it again."}, 404)
        loop = asyncio.get_running_loop()
        return HTMLResponse(await loop.run_in_executor(self._drawing, self._explorer, translations))

    def _explorer(self, translations: Sequence[Translation]) -> Html:
        return to_html(
            (number, self._translator.attention(translation.source, translation))
            for number, translation in enumerate(translations, start=1)
            if translation.has_attention
        )


def make_server(site: Site) -> uvicorn.Server:
    """What carries requests to the site; it is heard only when something goes wrong."""
    config = uvicorn.Config(
        site.app,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=PATIENCE,
    )
    return uvicorn.Server(config)


class _Ending:
    """Tells those who still wait when the server ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            await JSONResponse({"error": str(ending())}, 503)(scope, receive, send)


async def _body(request: Request) -> bytes:
    """All of it that is looked at. It is read to its end, so that who sends too much is there to be told."""
    body = b""
    async for chunk in request.stream():
        if len(body) <= BODY:
            body += chunk
    return body


def _lines(body: bytes) -> list[str]:
    """The lines to translate. Raises InputError for what is too long, or is no text."""
    too_long = InputError(
        f"the text is longer than {CHARACTERS:,} characters or {LINES} lines. Translate less at once."
    )
    if len(body) > BODY:
        raise too_long
    try:
        text = json.loads(body)["text"]
        text.encode()  # A lone half of a surrogate pair cannot be.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError('the request cannot be read. Send JSON such as {"text": "Good morning."}.') from error
    # As in a file: a line has an end, and another program's end may be "\r\n".
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(text) > CHARACTERS or len(lines) > LINES:
        raise too_long
    if not text.strip():
        raise InputError("there is no text. Type some.")
    return lines


def _as_json(line: str, translations: Sequence[Translation]) -> dict[str, Any]:
    return {
        "text": line,
        "parts": len(translations[0].parts),
        "translations": [{"text": one.text, "score": one.score, "tokens": one.tokens} for one in translations],
    }


def _error(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status)

    return answer


async def _refusal(request: Request, error: Exception) -> Response:
    """Addresses and methods that there are not."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _failure(request: Request, error: Exception) -> Response:
    """A fault of ours; the traceback goes to the server's terminal."""
    return JSONResponse({"error": "the server has failed at this. Its terminal says why."}, 500)
