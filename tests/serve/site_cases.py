"""A real server on a free port, in its own thread."""

import contextlib
import json
import threading
import urllib.error
import urllib.request
from typing import NamedTuple

import pytest
from tiny_run import make_run

from transformer_jax import Translator
from transformer_jax.commands.serve import open_socket
from transformer_jax.decoding.elastic_loop import ElasticLoop
from transformer_jax.serve.site import Site, make_server

TEXTS = ["Where is the dog?", "The old dog is here.", "Is it 3.5?"]
LONG = "Where is the old station? The old dog is here. Where is the old dog?"
"""A text with more tokens than ``data.max_length`` of the tiny run."""


class Answer(NamedTuple):
    """The status and the body of a response."""

    status: int
    text: str

    @property
    def json(self):
        return json.loads(self.text)


class Server(NamedTuple):
    """A running server.

    url: its address without a trailing slash.
    translator: its translator.
    calls: the number of sentences that join in each call of a loop.
    """

    url: str
    translator: Translator
    calls: list

    def get(self, path):
        return self._open(self.url + path)

    def post(self, body):
        """Post to /translate: bytes unchanged, everything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._open(urllib.request.Request(f"{self.url}/translate", data))

    def _open(self, request):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode())


@contextlib.contextmanager
def serving(translator):
    """Run the server as the command does."""
    calls = []
    advance = ElasticLoop.advance

    def record_call(loop, joining):
        calls.append(len(joining))
        return advance(loop, joining)

    with (
        pytest.MonkeyPatch.context() as patch,
        open_socket("127.0.0.1", 0) as server_socket,
        Site(translator) as site,
    ):
        patch.setattr(ElasticLoop, "advance", record_call)
        server = make_server(site)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [server_socket]})
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{server_socket.getsockname()[1]}", translator, calls)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Return the server of the tiny run: beam size 3, at most 17 tokens."""
    with serving(Translator.load(make_run(tmp_path_factory.mktemp("served") / "<tiny>"))) as server:
        yield server
