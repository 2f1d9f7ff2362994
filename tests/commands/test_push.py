"""A finished run is published with its scores, and the published run is used by its name."""

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from hub_server import READER, TOKEN, hub_of_this_process, hub_server
from tiny_run import TINY_CONFIG, make_run

from transformer_jax import Translator
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.push import main
from transformer_jax.config import DataConfig, load_config
from transformer_jax.downloads import runs

# huggingface_hub uploads large files with an argument that its HTTP library has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
RESULTS = {
    "recipe": "own",
    "scores": {"BLEU": {"value": 31.4159, "signature": SIGNATURE}, "chrF": {"value": 55.0, "signature": "chrF2"}},
    "best_step": 1,
    "overlap": {"sentences": 10, "sources": 3, "pairs": 2},
    "decoding": {"beam": 3, "length_penalty": 0.6},
    "training_pairs": 12345,
    "parameters": 6789,
    "wall_seconds": 123.4,
    "hardware": {"devices": ["cpu"], "processor": "AMD EPYC", "cores": 2},
    "versions": {"python": "3.11", "jax": "0.10", "flax": "0.12"},
    "history": [{"test": "/home/jane/old.tsv"}],
}
DATA = DataConfig(
    max_length=17,
    train="/home/jane/secret/train.{lang}.gz",
    valid="https://host/valid.tsv?X-Amz-Signature=secret",
    test="s3://bucket/test.tsv",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the directory of a finished run whose results.json is complete."""
    config = dataclasses.replace(TINY_CONFIG, data=DATA)
    directory = make_run(tmp_path_factory.mktemp("push") / "run", config)
    results = {**RESULTS, "config": dataclasses.asdict(config), "test": DATA.test}
    (directory / "results.json").write_text(json.dumps(results))
    for name in ("src", "ref", "hyp"):
        (directory / f"test.{name}.txt").write_text("text\n")
    return directory


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Yield a stand-in of the hub, whose owner has logged in."""
    with hub_of_this_process(monkeypatch) as server:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("TRANSFORMER_JAX_DOWNLOADS", str(tmp_path / "downloads"))
        runs.download_run.cache_clear()
        yield server


@pytest.fixture
def push(capfd):
    """Call the command and return its status, output and error."""

    def call(*arguments):
        return run_command(main, list(map(str, arguments))), *capfd.readouterr()

    yield call
    for handler in list(logging.root.handlers):
        if type(handler) is logging.StreamHandler:  # The command's own, which writes to a stream that is now closed.
            logging.root.removeHandler(handler)
    logging.root.setLevel(logging.WARNING)


def test_published_run_is_used_by_its_name(hub, run, push):
    status, output, error = push(run, "hf://jane/tiny", "--license", "cc-by-4.0")
    assert (status, error) == (0, "")
    assert output.startswith(f"Published as {hub.endpoint}/jane/tiny/commit/")
    assert output.endswith('translate "TEXT" --workdir hf://jane/tiny\n')
    texts = ["Where is the old station?", "The old dog is here."]
    translations = [Translator.load(name).translate(texts) for name in ("hf://jane/tiny", run)]
    assert translations[0] == translations[1]
    assert len(hub.models["jane/tiny"]) == 2  # The empty repository, and everything in one commit.


def test_model_card_has_scores_data_and_licence(hub, run, push):
    push(run, "hf://jane/tiny", "--license", "cc-by-4.0")
    card = hub.files("jane/tiny")["README.md"].decode()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["language"] == ["en", "de"]
    [result] = metadata["model-index"][0]["results"]
    assert [metric["value"] for metric in result["metrics"]] == [31.42, 55.0]
    for text in (
        "hf://jane/tiny",
        f"- BLEU 31.42, signature `{SIGNATURE}`",
        "Test set: `s3://bucket/test.tsv`, decoded with beam size 3 and length penalty 0.6.",
        "the training text contains 3 of 10 test sentences",
        "- training text: `train.{lang}.gz`, 12,345 pairs",
        "- validation text: `https://host/valid.tsv`",
        "The licence of the weights is `cc-by-4.0`.",
    ):
        assert text in card


def test_nothing_private_is_published(hub, run, push):
    push(run, "hf://jane/tiny", "--license", "mit")
    files = hub.files("jane/tiny")
    assert not [name for name, content in files.items() if b"secret" in content or b"/home/jane" in content]
    assert not [name for name in files if name.startswith("test.")]
    assert "history" not in json.loads(files["results.json"])
    metadata = "checkpoints/1/state/_METADATA"  # With the names of all arrays. "mu" and "nu" belong to Adam.
    assert b"'mu'" in (run / metadata).read_bytes()
    assert b"'mu'" not in files[metadata]


def test_test_text_is_published_on_request(hub, run, push):
    push(run, "hf://jane/tiny", "--license", "mit", "--test-text")
    assert hub.files("jane/tiny")["test.hyp.txt"] == b"text\n"


def test_dry_run_shows_files_and_card_without_the_hub(hub, run, push):
    status, output, error = push(run, "hf://jane/tiny", "--license", "mit", "--dry-run")
    assert (status, error, hub.requests) == (0, "", [])
    lines = output.splitlines()
    assert [line.split()[-1] for line in lines if line.endswith(".json")][-2:] == ["results.json", "tokenizer.json"]
    assert any(line.endswith("files") for line in lines)
    assert "# tiny" in lines


def test_second_push_replaces_the_run(hub, run, push, tmp_path):
    push(run, "hf://jane/tiny", "--license", "mit", "--test-text")
    files = {**hub.files("jane/tiny"), "notes.pdf": b"kept", "checkpoints/99/checksums.json": b"{}"}
    hub.commit("jane/tiny", files)
    push(run, "hf://jane/tiny", "--license", "apache-2.0")
    files = hub.files("jane/tiny")
    assert "notes.pdf" in files
    assert not [name for name in files if "/99/" in name or name.startswith("test.")]
    assert b"apache-2.0" in files["README.md"]


def test_private_repository_stays_private(hub, run, push):
    push(run, "hf://jane/tiny", "--license", "mit", "--private")
    assert hub.private == {"jane/tiny"}
    hub.private.clear()
    commits = len(hub.models["jane/tiny"])
    status, _, error = push(run, "hf://jane/tiny", "--license", "mit", "--private")
    assert (status, error) == (2, "error: hf://jane/tiny is public. Omit --private, or choose another name.\n")
    assert len(hub.models["jane/tiny"]) == commits


def test_other_repository_is_not_overwritten(hub, run, push):
    hub.commit("jane/bert", {"config.json": b"{}", "model.safetensors": b"weights"})
    status, _, error = push(run, "hf://jane/bert", "--license", "mit")
    assert (status, error.count("\n")) == (2, 1)
    assert "hf://jane/bert contains other files, such as config.json. Choose another name." in error
    assert set(hub.files("jane/bert")) == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("token", [None, READER])
def test_missing_rights_are_one_line(hub, run, push, monkeypatch, token):
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    status, output, error = push(run, "hf://jane/tiny", "--license", "mit")
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: hf://jane/tiny: ")
    assert "hf auth login" in error
    assert not hub.models


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the run or its name on the hub is missing."),
        (["runs/x", "hf://jane/x"], "--license is missing. Set it to the licence of the weights"),
        (["runs/x", "hf://jane/x", "--license", "MIT License"], "--license MIT License is not an identifier"),
        (["runs/x", "jane/x", "--license", "mit"], "jane/x is not a repository of the hub. Write hf://OWNER/NAME"),
        (["runs/x", "hf://jane/x@main", "--license", "mit"], "without a revision."),
        (["runs/x", "s3://jane/x", "--license", "mit"], "s3://jane/x is not a repository of the hub."),
        (["runs/none", "hf://jane/x", "--license", "mit"], "runs/none does not exist."),
    ],
)
def test_invalid_options_are_one_line(push, arguments, message):
    status, output, error = push(*arguments)
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert message in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "results.json").unlink(), "has no results.json, because its training has not ended."),
        (lambda run: (run / "results.json").write_text("{"), "results.json is damaged"),
        (lambda run: edit(run, best_step=7), "has the scores of step 7, but the best checkpoint is step 1."),
        (lambda run: edit(run, scores={"BLEU": 3}), "results.json is damaged"),
    ],
)
def test_unfinished_run_is_refused(hub, run, push, tmp_path, change, message):
    copy = shutil.copytree(run, tmp_path / "copy")
    change(copy)
    status, output, error = push(copy, "hf://jane/tiny", "--license", "mit")
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert message in error
    assert not hub.models


def edit(run, **changes):
    path = run / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_published_run_starts_another_training(hub, run, push):
    from transformer_jax.commands.train import parse_train

    push(run, "hf://jane/tiny", "--license", "mit")
    command = parse_train(["--training.init", "hf://jane/tiny", "--workdir", "runs/none"])
    assert command.config.training.init == "hf://jane/tiny"
    assert command.config.model == load_config(run / "config.json").model


@pytest.mark.slow
def test_installed_commands_push_and_translate(run, tmp_path):
    with hub_server() as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": TOKEN,
            "HOME": str(tmp_path),
        }

        def call(*arguments):
            command = [sys.executable, "-m", "transformer_jax", *map(str, arguments)]
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)

        call("push", run, "hf://jane/tiny", "--license", "mit")
        remote, local = (
            call("translate", "Where is the old station?", "--workdir", name) for name in ("hf://jane/tiny", run)
        )
        assert remote.stdout == local.stdout
        assert "downloading hf://jane/tiny (" in remote.stderr
