"""translate.py as a separate process: signals, closed pipes, full disks and locales."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from translate_cases import ROOT, without_warnings


@pytest.fixture
def start(tiny_run, tmp_path):
    """Start the program on lines that keep it busy for a while. Its output file contains ``before``."""
    (tmp_path / "in.txt").write_text("a\n" * 20_000)
    (tmp_path / "out.txt").write_text("before")
    processes = []
    # With buffered output, as in a user's shell.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

    def start(*arguments, **streams):
        program = [sys.executable, str(ROOT / "translate.py"), "--workdir", str(tiny_run), "--beam", "1"]
        processes.append(
            subprocess.Popen(
                [*program, "--input", "in.txt", *arguments],
                cwd=tmp_path,
                env=environment,
                stderr=subprocess.PIPE,
                **streams,
            )
        )
        return processes[-1]

    # A shell that started these tests with `&` ignores SIGINT, and the programs would inherit that.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield start
    signal.signal(signal.SIGINT, handler)
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_killed_process_leaves_the_output_unchanged(start, tmp_path, number, status):
    process = start("--output", "out.txt")
    partial = tmp_path / f".out.txt.{process.pid}.partial"
    deadline = time.monotonic() + 100
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=30) == status
    assert (tmp_path / "out.txt").read_text() == "before"
    left_over = [] if number == signal.SIGINT else [partial.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*left_over, "in.txt", "out.txt"]
    (tmp_path / "in.txt").write_text("a\n" * 3)
    assert start("--output", "out.txt").wait(timeout=100) == 0
    assert (tmp_path / "out.txt").read_text().count("\n") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [*left_over, "in.txt", "out.txt"]


def test_two_processes_can_write_the_same_output(start, tmp_path):
    long = start("--output", "out.txt")
    partial = tmp_path / f".out.txt.{long.pid}.partial"
    deadline = time.monotonic() + 100
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    long.send_signal(signal.SIGSTOP)
    (tmp_path / "short.txt").write_text("a\n" * 3)
    (tmp_path / "short.txt").replace(tmp_path / "in.txt")  # The first process keeps reading the old file.
    assert start("--output", "out.txt").wait(timeout=100) == 0
    assert (tmp_path / "out.txt").read_text().count("\n") == 3
    long.send_signal(signal.SIGCONT)
    assert long.wait(timeout=100) == 0
    assert (tmp_path / "out.txt").read_text().count("\n") == 20_000


@pytest.mark.parametrize("alignments", [False, True])
def test_process_exits_quietly_when_its_reader_closes(start, alignments, tmp_path):
    process = start(*(["--alignments", tmp_path / "links"] if alignments else []), stdout=subprocess.PIPE)
    assert process.stdout.readline().endswith(b"\n")
    process.stdout.close()
    assert process.wait(timeout=100) == 0
    assert without_warnings(process.stderr.read().decode()) == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [(), ("--output", "/dev/full"), ("--alignments", "links")])
def test_full_disk_is_one_error_line(start, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("a\n" * 3)
    with open("/dev/full", "w") as full:
        process = start(*arguments, stdout=full)
        message = without_warnings(process.communicate(timeout=100)[1].decode())
    assert process.returncode == 1
    full = "/dev/full" if "/dev/full" in arguments else "standard output"
    assert message.startswith(f"error: cannot write {full}: No space left on device")
    assert message.count("\n") == 1


def test_closed_standard_output_does_not_affect_output_file(tiny_run, tmp_path):
    command = [sys.executable, str(ROOT / "translate.py"), "a", "--workdir", str(tiny_run), "--output", "out"]
    result = subprocess.run(["sh", "-c", f"{shlex.join(command)} >&-"], cwd=tmp_path, capture_output=True, timeout=120)
    assert (result.returncode, without_warnings(result.stderr.decode())) == (0, "")
    assert (tmp_path / "out").read_text().endswith("\n")


def test_process_runs_from_any_directory_and_locale(tiny_run, tmp_path, expected):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    program = [sys.executable, str(ROOT / "translate.py"), "--workdir", str(tiny_run)]
    text = "Where is the dog? 駅🙂"
    result = subprocess.run(
        program, input=f"{text}\n\n".encode(), capture_output=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.decode() == f"{expected([text])[0]}\n\n"
    refused = subprocess.run([*program, "a", "--no-such"], capture_output=True, cwd=tmp_path, timeout=120)
    assert refused.returncode == 2
    assert refused.stderr.decode().count("\n") == 1


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1:strict"},
    ],
    ids=lambda variables: " ".join(variables.values()),
)
def test_arguments_are_utf8_in_every_locale(variables, tiny_run, tmp_path, expected):
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **variables}
    program = [sys.executable, str(ROOT / "translate.py"), "--workdir", str(tiny_run), "--jsonl"]
    arguments = ["Where is the dög? 駅🙂".encode(), b"The d\xf6g."]
    result = subprocess.run([*program, *arguments], capture_output=True, cwd=tmp_path, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    texts = [json.loads(line)["text"] for line in result.stdout.splitlines()]
    assert texts == expected(["Where is the dög? 駅🙂", "The d\ufffdg."])
    messages = result.stderr.decode()
    assert "arguments:2 is not UTF-8: invalid bytes become U+FFFD." in messages
    assert "arguments:1" not in messages
