"""Loading an untrusted run directory executes nothing, follows no link out of it and takes no extra memory."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from simulated_devices import simulate_devices
from tiny_run import tiny_run  # noqa: F401

from transformer_jax import Translator
from transformer_jax.config import load_config
from transformer_jax.errors import InputError
from transformer_jax.runtime import memory
from transformer_jax.storage import checkpoints, untrusted
from transformer_jax.storage.checksums import seal

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def run(tiny_run, tmp_path):  # noqa: F811
    """A copy of a finished run for a test to damage."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def refusal(workdir):
    """Return the message with which the run is refused; check that this takes little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        Translator.load(workdir)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17, "128 MiB"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(path, *keys, to):
    """Set one value of a JSON file."""
    content = json.loads(path.read_text())
    section = content
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = to
    path.write_text(json.dumps(content))


# Links.


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "checkpoints", "checkpoints/1/state/d", "metrics.jsonl"]
)
def test_a_link_out_of_the_run_directory_is_refused(run, tmp_path, name):
    path = run / name
    if path.exists():
        shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert f"{path} is a link to a path outside the run directory." in refusal(run)
    path.unlink()
    path.symlink_to(os.path.relpath(tmp_path / "elsewhere", path.parent))
    assert f"{path} is a link to a path outside the run directory." in refusal(run)


def test_links_to_and_within_the_run_directory_are_followed(run, tmp_path):
    shutil.move(run / "checkpoints", run / "moved")
    (run / "checkpoints").symlink_to("moved")
    (tmp_path / "link").symlink_to(run)
    assert Translator.load(tmp_path / "link").translate(["Where is the dog?"])


def test_a_pipe_is_refused_without_reading_it(run):
    (run / "tokenizer.json").unlink()
    os.mkfifo(run / "tokenizer.json")
    assert "tokenizer.json is neither a file nor a directory." in refusal(run)


def test_a_circular_link_is_refused(run):
    (run / "loop").symlink_to("loop")
    assert "loop is neither a file nor a directory." in refusal(run)


@pytest.mark.parametrize("step", ["../../../other/checkpoints/1", -1, 2, None, [], 10**30])
def test_only_checkpoints_of_this_run_are_read(run, tiny_run, tmp_path, step, monkeypatch, caplog):  # noqa: F811
    shutil.copytree(tiny_run, tmp_path / "other")
    change(run / "checkpoints/1/progress.json", "best_step", to=step)
    seal(run / "checkpoints/1")  # An attacker can also write matching checksums.
    read = []
    monkeypatch.setattr(checkpoints, "find_damage", lambda directory, *prefix: read.append(directory))
    Translator.load(run)
    assert {*read} == {run / "checkpoints/1"}
    assert "Using step 1." in caplog.text


@pytest.mark.parametrize("content", ["[]", "7", '{"best_step": 1, "run": "rm"}', "{", ""])
def test_an_invalid_progress_file_is_refused(run, content):
    (run / "checkpoints/1/progress.json").write_text(content)
    seal(run / "checkpoints/1")
    assert "progress.json is damaged" in refusal(run)


def test_a_run_directory_of_format_3_is_read(run):
    content = json.loads((run / "config.json").read_text())
    for name in ("activation", "positions", "scale_embeddings", "biases", "norm_epsilon"):
        del content["model"][name]
    (run / "config.json").write_text(json.dumps(content | {"format": 3}))
    assert Translator.load(run).config.model.activation == "relu"
    change(run / "config.json", "format", to=2)
    assert "config.json has format 2, but this version of transformer_jax reads formats 3, 4, 5 and 6." in refusal(run)


def test_only_formats_before_5_may_lack_the_evaluation(run):
    content = json.loads((run / "config.json").read_text())
    del content["evaluation"]
    for version in (3, 4):
        (run / "config.json").write_text(json.dumps(content | {"format": version}))
        assert load_config(run / "config.json").evaluation.tokenize == "auto"
    change(run / "config.json", "format", to=5)
    assert "config.json has no section evaluation. Restore the file" in refusal(run)


def test_a_run_without_its_normalization_is_refused(run):
    change(run / "config.json", "tokenizer", "normalization", to="text")
    assert "normalization.json is missing, but tokenizer.normalization in config.json is text." in refusal(run)
    (run / "normalization.json").write_text('{"hyphen": ["(a+)+$"]}')
    assert "normalization.json is damaged" in refusal(run)
    (run / "normalization.json").write_text("{}")
    assert Translator.load(run).tokenizers.source.normalization is not None


# Sizes.


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("model", "d_model", 10**9),
        ("model", "d_model", 10**30),
        ("model", "d_ff", 10**18),
        ("model", "encoder_layers", 10**9),
        ("model", "decoder_layers", 10**9),
        ("model", "d_model", 14.5),
        ("model", "d_model", "14"),
        ("model", "d_model", None),
        ("model", "dropout", float("nan")),
        ("model", "norm", "both"),
        ("model", "dtype", ["float32"]),
        ("data", "max_length", {}),
        ("data", "train", 7),
        ("data", "on_error", "ignore"),
        ("data", "no_such_field", 1),
        ("optimizer", "beta1", float("inf")),
    ],
)
def test_a_config_that_does_not_match_the_checkpoint_is_refused(run, section, name, value):
    change(run / "config.json", section, name, to=value)
    refusal(run)


@pytest.mark.parametrize("text", ["Where is the dog?", "dog " * 20_000])
@pytest.mark.parametrize(
    "changes",
    [{("decoding", "beam"): 10**9}, {("data", "max_length"): 10**9, ("data", "batch_tokens"): 10**9}],
    ids=["beam", "max_length"],
)
def test_a_search_that_exceeds_the_memory_is_refused(run, changes, text, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 2**30)
    for keys, value in changes.items():
        change(run / "config.json", *keys, to=value)
    translator = Translator.load(run)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if ("decoding", "beam") in changes or len(text) > 100:
        with pytest.raises(
            InputError, match=r"needed per device, 1\.00 GiB available\. Lower --beam, or split the texts\."
        ):
            translator.translate([text])
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17, "128 MiB"
    else:
        assert len(translator.translate([text])) == 1


def test_translation_ignores_an_absurd_row_length(run):
    change(run / "config.json", "data", "row_length", to=10**9)
    assert len(Translator.load(run).translate(["Where is the dog?"])) == 1


def test_parameters_that_exceed_the_memory_are_not_read(run, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 10_000)
    assert f"the parameters of {run}: 0.00 GiB needed per device, 0.00 GiB available." in refusal(run)


@pytest.mark.parametrize("content", ["[" * 10**6, "1" * 10**6, "[]", "7", "\ud83d".encode("utf-8", "surrogatepass")])
def test_an_invalid_config_is_refused(run, content):
    (run / "config.json").write_bytes(content.encode() if isinstance(content, str) else content)
    assert "config.json is not the config of a run" in refusal(run)


def test_an_oversized_tokenizer_file_is_not_read(run):
    with (run / "tokenizer.json").open("ab") as file:
        file.truncate(untrusted.MAX_JSON_BYTES + 1)
    assert "tokenizer.json is larger than 64 MiB." in refusal(run)


def test_a_tokenizer_larger_than_the_checkpoint_is_refused(run):
    content = json.loads((run / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"word{n}": len(vocabulary) + n for n in range(100_000)}
    (run / "tokenizer.json").write_text(json.dumps(content))
    assert "required by config.json and the tokenizers: (100311, 14)" in refusal(run)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (
            ["padding"],
            {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": ""},
        ),
        (["truncation"], {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}),
        (["normalizer"], {"type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": ""}),
        (["pre_tokenizer", "use_regex"], False),
        (["model", "dropout"], 0.5),
    ],
)
def test_a_tokenizer_with_foreign_rules_is_refused(run, keys, value):
    change(run / "tokenizer.json", *keys, to=value)
    assert "tokenizer.json differ from those of the bpe tokenizer in this version of transformer_jax." in refusal(run)


# Code and network.

WATCHED = """
import runpy, sys

REFUSED = (
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"),
    *("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"),
)

def refuse(event, arguments):
    if event in REFUSED:
        raise RuntimeError(f"{event} {arguments}")

LIBRARIES = (
    *("jax", "flax.linen", "optax", "orbax.checkpoint", "grain", "tensorstore", "sacrebleu", "tqdm", "tyro"),
    "tensorboardX",  # It imports PyTorch if that is installed, which may search for CUDA libraries.
)

for name in LIBRARIES:
    __import__(name)
sys.addaudithook(refuse)
sys.argv = sys.argv[1:]
sys.path.insert(0, "")
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program under an audit hook that refuses sockets, pickles and other programs."""

TINY = """
from transformer_jax.config import *
config = Config(
    model=ModelConfig(d_model=14, d_ff=19, heads=2, encoder_layers=1, decoder_layers=1),
    data=DataConfig(max_length=37, row_length=37, batch_tokens=307),
    tokenizer=TokenizerConfig(size=311),
    training=TrainingConfig(steps=2, valid_every=2, valid_sentences=1),
    decoding=DecodingConfig(beam=1),
)
"""


def test_no_network_no_pickle_and_no_other_program_is_used(tmp_path):
    # An untrained model would take a minute to translate the test set of the phrasebook.
    (tmp_path / "test.tsv").write_text("Good morning.\tGuten Morgen.\n")
    (tmp_path / "recipe.py").write_text(TINY)
    settings = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    # One device, as most users have: programs for the eight simulated ones take longer to compile.
    inherited = {name: value for name, value in simulate_devices(1).items() if not name.startswith("HF_")}
    workdir = ["--workdir", str(tmp_path / "run")]
    data = ["--data.valid", str(tmp_path / "test.tsv"), "--data.test", str(tmp_path / "test.tsv")]
    for command in (
        ["train.py", "--config", str(tmp_path / "recipe.py"), *workdir, *data],
        ["translate.py", "Where is the dog?", *workdir],
    ):
        program = [sys.executable, "-c", WATCHED, *command]
        ended = subprocess.run(program, cwd=ROOT, env=inherited | settings, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("\n") == 1
