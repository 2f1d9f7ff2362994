"""A remote file is downloaded once, whatever the server does, and its copy is complete or absent."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from transformer_jax.downloads.files import download_file
from transformer_jax.downloads.streams import public_url
from transformer_jax.errors import InputError, RunError

CONTENT = random.Random(7).randbytes(3_000_017)


@pytest.fixture
def url(server):
    return server.put("/data/train.tsv.gz", CONTENT, "one")


def test_file_is_downloaded_once(server, url, new_process, downloads):
    copy = download_file(url)
    assert copy.read_bytes() == CONTENT
    assert copy.name == "train.tsv.gz"
    assert "127.0.0.1" in copy.parent.parent.name  # Messages about the file show where it comes from.
    record = json.loads((copy.parent / "download.json").read_text())
    assert (record["size"], record["tag"]) == (len(CONTENT), '"one"')
    transferred = len(server.requests)
    new_process()
    assert download_file(url) == copy
    assert len(server.requests) - transferred <= 2  # Only the version is asked for.
    assert sorted(path.name for path in copy.parent.iterdir()) == ["download.json", "train.tsv.gz"]


def test_one_process_asks_only_once(server, url):
    copy = download_file(url)
    server.put("/data/train.tsv.gz", b"changed", "two")
    requests = len(server.requests)
    assert download_file(url) == copy
    assert len(server.requests) == requests


@pytest.mark.parametrize("fault", [("break", 2_000_003), ("stop", 2_000_003)])
def test_broken_transfer_is_resumed(server, url, fault, caplog):
    server.faults = [None, fault]
    assert download_file(url).read_bytes() == CONTENT
    assert [requested for _, requested in server.requests] == [None, None, None, "bytes=2000003-"]
    assert "Trying again in" in caplog.text


def test_each_position_of_a_break_gives_the_same_bytes(server, new_process):
    rng = random.Random(3)
    for number in range(20):
        url = server.put(f"/{number}", CONTENT[:200_003], f"tag {number}")
        server.faults = [None, *[fault for _ in range(3) for fault in (("break", rng.randrange(60_000)), None)]]
        assert download_file(url).read_bytes() == CONTENT[:200_003]


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_transient_errors_are_retried(server, url, status):
    server.faults = [("status", status), None, ("status", status)]
    assert download_file(url).read_bytes() == CONTENT


def test_slow_server_is_not_an_error(server, url):
    server.faults = [None, ("slow", 0.3)]
    assert download_file(url).read_bytes() == CONTENT


def test_server_without_ranges_starts_again(server, url):
    server.ranges, server.faults = False, [None, ("break", 1_000_003)]
    assert download_file(url).read_bytes() == CONTENT


def test_endless_breaks_end_with_one_line(server, url, downloads, new_process):
    server.ranges, server.faults = False, [fault for _ in range(10) for fault in (None, ("break", 1_000_003))]
    with pytest.raises(
        RunError, match=r"the download of http://.*/data/train.tsv.gz failed \(the connection ended"
    ) as e:
        download_file(url)
    assert "1.0 MB are kept" in str(e.value)
    assert not list(downloads.glob("**/train.tsv.gz"))
    server.ranges, server.faults = True, []
    assert download_file(url).read_bytes() == CONTENT
    assert server.requests[-1] == ("/data/train.tsv.gz", "bytes=1000003-")


def test_change_during_the_download_starts_again(server, url):
    changed = CONTENT[::-1]
    server.faults = [None, ("break", 1_000_003)]
    original = server.files.__class__.__getitem__

    class Changing(dict):
        def __getitem__(self, path):
            if len(server.requests) == 3:
                server.etags[path] = "two"
                self[path] = changed
            return original(self, path)

    server.files = Changing(server.files)
    assert download_file(url).read_bytes() == changed


def test_changed_file_is_downloaded_anew(server, url, new_process):
    first = download_file(url)
    server.put("/data/train.tsv.gz", b"changed", "two")
    new_process()
    second = download_file(url)
    assert second.read_bytes() == b"changed"
    assert first.read_bytes() == CONTENT  # Another process may still read it.


def test_same_size_without_a_tag_is_downloaded_anew(server, new_process):
    url = server.put("/untagged.tsv", b"one")
    assert download_file(url).read_bytes() == b"one"
    server.put("/untagged.tsv", b"two")
    new_process()
    assert download_file(url).read_bytes() == b"two"


def test_unknown_size_is_downloaded_completely(server, url):
    server.chunked, server.faults = True, [None, ("break", 1_000_003)]
    assert download_file(url).read_bytes() == CONTENT


@pytest.mark.parametrize("failure", ["gone", "status"])
def test_complete_copy_is_used_without_the_server(server, url, new_process, caplog, failure):
    copy = download_file(url)
    new_process()
    caplog.clear()
    if failure == "gone":
        server.shutdown()
        server.server_close()
    else:
        server.faults = [("status", 503)]
    assert download_file(url) == copy
    [message] = caplog.messages
    assert message.startswith(f"{url} is not reachable (")
    assert "Using the copy downloaded on 20" in message


def test_unfinished_copy_is_not_used_without_the_server(server, url, new_process):
    server.faults = [fault for _ in range(10) for fault in (None, ("break", 0))]
    with pytest.raises(RunError, match="failed"):
        download_file(url)
    server.faults = [("status", 500)] * 100
    with pytest.raises(RunError, match="the server answered 500"):
        download_file(url)


def test_changed_copy_is_downloaded_again(server, url, new_process, caplog):
    copy = download_file(url)
    copy.write_bytes(CONTENT[:-1])
    new_process()
    assert download_file(url).read_bytes() == CONTENT
    assert "has changed since it was downloaded" in caplog.text


def test_touched_copy_is_kept(server, url, new_process):
    copy = download_file(url)
    os.utime(copy)
    new_process()
    server.faults = [None, None, ("status", 404)]
    assert download_file(url) == copy


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "Check the URL."), (403, "Download the file with another program"), (410, "Check the URL.")],
)
def test_lasting_errors_are_one_line(server, url, status, message):
    server.faults = [("status", status)]
    with pytest.raises(InputError, match=f"the server answered {status} .*{message}") as error:
        download_file(url)
    assert "\n" not in str(error.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["https://", "https://a:secret@c/x", "http://[/x", "https://host:port/x", "http:///x"])
def test_invalid_url_is_one_line(url):
    with pytest.raises(InputError, match=r"a web address of the data is invalid. Write https://HOST/PATH") as error:
        download_file(url)
    assert "secret" not in str(error.value)


def test_query_is_sent_but_not_shown(server, caplog):
    caplog.set_level("INFO")
    url = server.put("/x.tsv", b"text", "one") + "?signature=secret"
    copy = download_file(url)
    assert copy.name == "x.tsv"
    assert "secret" not in caplog.text
    assert "secret" not in str(copy) + (copy.parent / "download.json").read_text()
    assert public_url("https://host:1/a/b?c=d#e") == "https://host:1/a/b"


def test_full_disk_is_one_line(server, url, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and type("", (), {"free": 2_000_000})
    )
    with pytest.raises(RunError, match=r"has 2.0 MB free, but 3.0 MB are needed. Free disk space, or set TRANSFORMER_"):
        download_file(url)


def test_unwritable_cache_is_one_line(url, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRANSFORMER_JAX_DOWNLOADS", str(tmp_path / "file" / "x"))
    with pytest.raises(
        RunError, match=r"cannot write .*: Not a directory. Free disk space, or set TRANSFORMER_JAX_DOW"
    ):
        download_file(url)


def test_unknown_home_is_one_line(url, monkeypatch):
    monkeypatch.delenv("TRANSFORMER_JAX_DOWNLOADS")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(InputError, match=r"home directory is not known. Set TRANSFORMER_JAX_DOWNLOADS"):
        download_file(url)


PROGRAM = "import sys; from transformer_jax.downloads.files import download_file; print(download_file(sys.argv[1]))"


def start_download(url):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_processes_share_one_download(server, url):
    server.faults = [None, ("slow", 1.0)]
    processes = [start_download(url) for _ in range(3)]
    paths = {process.communicate(timeout=60)[0] for process in processes}
    assert len(paths) == 1
    assert Path(paths.pop().decode().strip()).read_bytes() == CONTENT
    # The first process sends 2 requests. The others find the copy, and ask for the version.
    assert len(server.requests) <= 2 + 2 * 2
    assert all(requested is None for _, requested in server.requests)


def test_killed_process_is_resumed_by_the_next(server, url, downloads):
    server.faults = [None, ("stop", 1_500_007)]
    process = start_download(url)

    def partial():
        return sum(path.stat().st_size for path in downloads.glob("**/*.partial"))

    limit = time.monotonic() + 60
    while partial() < 1_000_000 and time.monotonic() < limit:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    position = partial()
    assert position >= 1_000_000
    assert download_file(url).read_bytes() == CONTENT
    assert server.requests[-1] == ("/data/train.tsv.gz", f"bytes={position}-")
