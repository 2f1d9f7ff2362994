"""A run that a URL names is copied into the cache once, and used as any other run."""

import json
import subprocess
import sys

import pytest
from tiny_run import tiny_run  # noqa: F401

from transformer_jax import Translator
from transformer_jax.commands.train import parse_train
from transformer_jax.downloads.runs import local_run, run_url
from transformer_jax.errors import InputError, RunError

# ruff: noqa: F811
TEXTS = ["Where is the old station?", "The old dog is here."]


def files_of(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def published(hub, tiny_run):
    """Return the hub after the tiny run was published as jane/tiny."""
    hub.commit("jane/tiny", {**files_of(tiny_run), "README.md": b"card", "big.bin": b"x" * 100})
    return hub


def test_run_of_the_hub_translates(published, tiny_run):
    translator = Translator.load("hf://jane/tiny")
    expected = Translator.load(tiny_run).translate(TEXTS)
    assert [best.text for best in translator.translate(TEXTS)] == [best.text for best in expected]


def test_copy_is_a_real_directory_of_what_is_needed(published, tiny_run):
    copy = local_run("hf://jane/tiny")
    assert files_of(copy) == files_of(tiny_run)
    assert copy.name == "tiny"
    assert not any(path.is_symlink() for path in copy.rglob("*"))


def test_copy_is_used_again_and_offline(published, new_process, caplog):
    copy = local_run("hf://jane/tiny")
    requests = len(published.requests)
    assert local_run("hf://jane/tiny") == copy
    assert len(published.requests) == requests
    new_process()
    assert local_run("hf://jane/tiny") == copy
    assert not any("/resolve/" in path and "progress.json" not in path for _, path in published.requests[requests:])
    new_process()
    published.faults = [503] * 9
    assert local_run("hf://jane/tiny") == copy
    assert "hf://jane/tiny is not reachable (" in caplog.text


def test_revision_is_honoured_and_a_commit_needs_no_network(published, new_process):
    first = published.models["jane/tiny"][0][0]
    changed = {**published.files("jane/tiny"), "results.json": b'{"scores": {"BLEU": 1}}'}
    published.commit("jane/tiny", changed)
    assert json.loads((local_run("hf://jane/tiny") / "results.json").read_text()) == {"scores": {"BLEU": 1}}
    copy = local_run(f"hf://jane/tiny@{first}")
    assert json.loads((copy / "results.json").read_text()) == {"scores": {}}
    new_process()
    requests = len(published.requests)
    assert local_run(f"hf://jane/tiny@{first}") == copy
    assert len(published.requests) == requests


def test_only_the_best_complete_checkpoint_is_copied(hub, tiny_run):
    files = files_of(tiny_run)
    rest = {name: content for name, content in files.items() if not name.startswith("checkpoints")}
    best = {name.partition("/1/")[2]: content for name, content in files.items() if name not in rest}
    for step in (1, 7, 9):
        rest |= {f"checkpoints/{step}/{name}": content for name, content in best.items()}
    del rest["checkpoints/9/checksums.json"]  # Still being uploaded.
    hub.commit("jane/tiny", rest)
    copy = local_run("hf://jane/tiny")
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["1"]
    hub.commit("jane/other", {name: content for name, content in rest.items() if "/1/" not in name})
    assert [path.name for path in (local_run("hf://jane/other") / "checkpoints").iterdir()] == ["7"]


def test_names_that_leave_the_directory_are_not_copied(published, downloads):
    files = published.files("jane/tiny")
    evil = (
        "../evil.json",
        "checkpoints/1/../../../evil",
        "checkpoints/1/./evil",
        "/evil.json",
        ".hidden.json",
        "a/b.json",
    )
    published.commit("jane/evil", {**files, **dict.fromkeys(evil, b"evil")})
    copy = local_run("hf://jane/evil")
    assert not [path for path in downloads.parent.rglob("*") if path.is_file() and path.read_bytes() == b"evil"]
    assert Translator.load(copy).translate(TEXTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config.json": None}, "hf://jane/bad is not a run: config.json is missing. Check the name."),
        ({"checkpoints/1/checksums.json": None}, "hf://jane/bad has no complete checkpoint."),
        ({"checkpoints/1/state/_METADATA": b"damaged"}, r"checkpoint 1 is damaged \(state/_METADATA does not match"),
        ({"results.json": b" " * (2**26 + 1)}, "results.json of hf://jane/bad is larger than 64 MiB."),
    ],
)
def test_damaged_run_is_refused(published, downloads, change, message):
    files = {**published.files("jane/tiny"), **change}
    published.commit("jane/bad", {name: content for name, content in files.items() if content is not None})
    with pytest.raises(InputError, match=message) as error:
        local_run("hf://jane/bad")
    assert "\n" not in str(error.value)
    assert not list(downloads.glob("runs/*/*/bad"))


@pytest.mark.parametrize("name", ["hf://jane/none", "hf://jane/tiny@none"])
def test_unknown_name_is_one_line(published, name):
    with pytest.raises(InputError, match=f"^{name}: ") as error:
        local_run(name)
    assert "\n" not in str(error.value)


def test_broken_transfer_of_a_run_is_resumed(published, tiny_run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    published.faults = [*[None] * 9, 500, None, 503, None, None, 500]
    assert files_of(local_run("hf://jane/tiny")) == files_of(tiny_run)


def test_unreachable_hub_without_a_copy_is_one_line(hub, monkeypatch):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(RunError, match="the download of hf://jane/tiny failed") as error:
        local_run("hf://jane/tiny")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("runs/x", None),
        ("/runs/hf:/x", None),
        ("hf://jane/tiny", "hf://jane/tiny"),
        ("hf:/jane/tiny", "hf://jane/tiny"),  # As pathlib writes it.
        ("hf://jane/tiny@main/", "hf://jane/tiny@main"),
        ("s3:/bucket/runs/x", "s3://bucket/runs/x"),
        ("gs://bucket/x/", "gs://bucket/x"),
    ],
)
def test_urls_are_told_from_paths(run, expected):
    assert run_url(run) == expected


def test_training_in_a_bucket_is_refused():
    with pytest.raises(InputError, match=r"^--workdir s3://bucket/run is not a directory\."):
        parse_train(["--workdir", "s3://bucket/run"])


def test_paths_need_none_of_the_libraries():
    program = (
        "import sys, transformer_jax.decoding.translator, transformer_jax.commands.translate, "
        "transformer_jax.data.sources as sources; sources.open_pairs('phrasebook', 'en', 'de', 'train'); "
        "print([name for name in ('fsspec', 's3fs', 'gcsfs', 'huggingface_hub', 'aiohttp') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"


@pytest.mark.parametrize("run", ["hf://jane", "hf://jane/a/b", "hf://jane/a@", "https://host/run", "ftp:/host/run"])
def test_urls_of_no_run_are_refused(run):
    with pytest.raises(InputError, match=r"is not a (run|valid name)"):
        local_run(run)
