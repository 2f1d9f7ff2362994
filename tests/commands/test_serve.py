"""The command ``serve``: start, refused options and end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from transformer_jax.commands.cli import run_command
from transformer_jax.commands.serve import main

ROOT = Path(__file__).parent.parent.parent


def refusal(capfd, *arguments):
    """Return the single error line of a refused command."""
    assert run_command(main, list(map(str, arguments))) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_directory_without_a_run_is_refused(capfd, tmp_path):
    assert f"{tmp_path} is not a run directory" in refusal(capfd, "--workdir", tmp_path, "--port", 0)


def test_invalid_beam_is_refused_before_the_page_opens(capfd, tiny_run):
    assert "--beam 0 is invalid" in refusal(capfd, "--workdir", tiny_run, "--port", 0, "--beam", 0)


def test_port_in_use_is_refused(capfd, tiny_run):
    with socket.create_server(("127.0.0.1", 0)) as other_server:
        port = other_server.getsockname()[1]
        message = refusal(capfd, "--workdir", tiny_run, "--port", port)
    assert message == (
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use. Choose another --port or --host.\n"
    )


@pytest.mark.parametrize("port", [-1, 65536])
def test_invalid_port_is_refused(capfd, tiny_run, port):
    assert f"--port {port} is invalid. " in refusal(capfd, "--workdir", tiny_run, f"--port={port}")


def test_address_of_another_machine_is_refused(capfd, tiny_run):
    assert "Choose another --port or --host." in refusal(capfd, "--workdir", tiny_run, "--host", "192.0.2.1")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_missing_package_error_names_the_pip_command(capfd, tiny_run, monkeypatch, missing):
    for name in [name for name in sys.modules if name.startswith("transformer_jax.serve.site")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == missing:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    message = refusal(capfd, "--workdir", tiny_run, "--port", 0)
    assert re.fullmatch(rf"error: the page needs {missing}\S*\. Run: pip install starlette uvicorn\n", message)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_server_despite_an_open_request(tiny_run, number, status):
    process = subprocess.Popen(
        [sys.executable, "-m", "transformer_jax", "serve", "--workdir", tiny_run, "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(120, process.kill)
    guard.start()
    with process:
        first_line = process.stderr.readline()
        address = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/)    Press Ctrl-C to stop\.\n", first_line)
        assert address, first_line + process.stderr.read()
        body = json.dumps({"text": "Where is the dog?"}).encode()
        with urllib.request.urlopen(urllib.request.Request(address[1] + "translate", body), timeout=60) as response:
            assert json.load(response)["lines"][0]["text"] == "Where is the dog?"
        host, port = address[1].removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port))) as idle:
            idle.sendall(b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
            assert idle.recv(99).startswith(b"HTTP/1.1 100"), "the server waits for the body"
            process.send_signal(number)
            out, err = process.communicate()
            assert idle.recv(99).startswith(b"HTTP/1.1 503")
    guard.cancel()
    assert process.returncode == status
    assert out == ""
    first, last = err.splitlines()
    assert first.startswith("Cancel 1 running task(s)")
    assert last == ("interrupted" if number == signal.SIGINT else "stopped by SIGTERM")
