"""A whole run, small: what it leaves behind, how it continues, and what it refuses."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.profiler import ProfileData

from benchmarks.results import read_run
from transformer_jax.config import (
    Config,
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TokenizerConfig,
    TrainingConfig,
    save_config,
)
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError, RunError, StoppedBySignal
from transformer_jax.runtime import memory
from transformer_jax.storage.checkpoints import Checkpoints, Progress, load_params
from transformer_jax.training import corpus
from transformer_jax.training import loop as fitting
from transformer_jax.training.results import git_commit

WORDS = ("eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht")


def write_corpus(folder):
    """Digits to German number words: a language that a small model learns in seconds."""
    random = np.random.default_rng(0)
    for name, count in (("train", 400), ("valid", 23), ("test", 29)):
        rows = [random.integers(0, 8, random.integers(1, 5)) for _ in range(count)]
        text = "".join(f"{' '.join(str(n + 1) for n in row)}\t{' '.join(WORDS[n] for n in row)}\n" for row in rows)
        (folder / f"{name}.tsv").write_text(text)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Settings of a run that takes seconds."""
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder)

    def make_config(steps=12, **training):
        return Config(
            model=ModelConfig(d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1, dropout=0.1),
            data=DataConfig(
                *(str(folder / f"{name}.tsv") for name in ("train", "valid", "test")),
                max_length=16,
                batch_tokens=512,
            ),
            tokenizer=TokenizerConfig(kind="word", size=40),
            optimizer=OptimizerConfig(warmup=10, factor=2.0),
            training=TrainingConfig(
                **{"steps": steps, "valid_every": 4, "log_every": 2, "valid_sentences": 23, "ema": 0.9, **training}
            ),
        )

    return make_config


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """The folder of a finished run."""
    workdir = tmp_path_factory.mktemp("runs") / "numbers"
    fitting.fit(recipe(), workdir, recipe=Path("configs/numbers.py"))
    return workdir


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    checkout = tmp_path / "checkout"
    (checkout / "transformer_jax").mkdir(parents=True)
    (checkout / "README.md").write_text("one")
    results = checkout / "transformer_jax/training/results.py"
    monkeypatch.setattr("transformer_jax.training.results.__file__", str(results))

    def git(folder, *arguments):
        name = "-c", "user.name=A", "-c", "user.email=a@b.c"
        command = ["git", "-C", str(folder), *name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git(tmp_path, "init")
    assert git_commit() is None  # A package in a folder of another project.
    git(checkout, "init")
    assert git_commit() is None  # A branch without a commit.
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "one")
    head = git(checkout, "rev-parse", "HEAD")
    assert git_commit() == head
    git(checkout, "pack-refs", "--all")
    assert git_commit() == head
    git(checkout, "checkout", "--detach")
    assert git_commit() == head


def test_a_run_folder_holds_what_translation_and_the_reader_need(recipe, finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.json", "tokenizer.json", "checkpoints", "metrics.jsonl", "results.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    results = json.loads((finished / "results.json").read_text())
    assert "version:" in results["scores"]["BLEU"]["signature"]
    assert [valid["step"] for valid in results["validations"]] == [4, 8, 12]
    best = max(results["validations"], key=lambda valid: valid["bleu"])
    assert results["best_step"] == best["step"]
    assert results["target_tokens_per_second"] > 0
    assert results["wall_seconds"] > 0
    assert results["versions"]["jax"] == jax.__version__
    assert results["hardware"]["processor"]
    assert results["hardware"]["cores"] > 0
    assert results["commit"] == git_commit()
    assert results["recipe"] == "numbers"
    assert results["config"] == dataclasses.asdict(recipe())
    assert results["training_pairs"] == 400


def test_the_results_of_a_run_can_be_recorded(recipe, finished, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/numbers.py").write_text("from transformer_jax.config import Config\nconfig = Config()\n")
    found = read_run(finished / "results.json", tmp_path)
    assert "--training.steps 12" in found.command


def test_what_is_tested_and_trained_on_is_counted_whenever_it_is_scored(recipe, finished, tmp_path, capsys):
    # Digits of one to four places: many a short line is in both. Counted as a reader would.
    data = recipe().data
    train, test = (set_of.read_text().splitlines() for set_of in (Path(data.train), Path(data.test)))
    sources = {line.partition("\t")[0] for line in train}
    common = sum(line.partition("\t")[0] in sources for line in test)
    expected = {"sentences": 29, "sources": common, "pairs": sum(line in train for line in test)}
    results = shutil.copytree(finished, tmp_path / "run") / "results.json"
    assert common > 0
    assert json.loads(results.read_text())["overlap"] == expected
    results.unlink()
    fitting.fit(recipe(), results.parent)  # Which only scores: its start reads no text.
    assert json.loads(results.read_text())["overlap"] == expected
    assert f"{common} of 29 test sentences" in capsys.readouterr().out


def test_metrics_are_written_as_often_as_asked(finished):
    lines = metrics(finished)
    assert [line["step"] for line in lines if line["phase"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in lines if line["phase"] == "valid"] == [4, 8, 12]
    losses = [line["loss"] for line in lines if line["phase"] == "train"]
    assert losses[-1] < losses[0]


def test_a_finished_run_translates(finished):
    [translation] = Translator.load(finished).translate(["1 2"])
    assert set(translation.text.split()) <= set(WORDS)


def test_a_profile_is_a_trace_of_a_few_updates(recipe, tmp_path):
    fitting.fit(recipe(steps=24), tmp_path / "run", profile=tmp_path / "profile")
    [trace] = (tmp_path / "profile").rglob("*.xplane.pb")
    names = {
        event.name for plane in ProfileData.from_file(str(trace)).planes for x in plane.lines for event in x.events
    }
    assert any("train_step" in name for name in names)


def test_a_profile_of_too_short_a_run_is_refused(recipe, tmp_path):
    with pytest.raises(InputError, match="needs 24 updates, but only 12 are left"):
        fitting.fit(recipe(), tmp_path / "run", profile=tmp_path / "profile")


@pytest.mark.filterwarnings("ignore:Sharding info not provided")  # the test reads as plainly as can be
def test_the_best_averaged_parameters_are_those_that_translate(finished):
    best = json.loads((finished / "results.json").read_text())["best_step"]
    saved = ocp.PyTreeCheckpointer().restore(finished.absolute() / "checkpoints" / str(best) / "state")
    loaded = load_params(finished / "checkpoints")
    jax.tree.map(np.testing.assert_array_equal, loaded, saved["average"])


def test_an_interrupted_run_ends_with_the_same_bytes(recipe, finished, tmp_path, monkeypatch):
    config = recipe()
    real = fitting.validate

    def stop_after_the_second(*arguments):
        values = real(*arguments)
        if int(arguments[3].step) == 12:
            raise KeyboardInterrupt
        return values

    monkeypatch.setattr(fitting, "validate", stop_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(config, tmp_path / "run")
    monkeypatch.setattr(fitting, "validate", real)
    fitting.fit(config, tmp_path / "run")
    same_run(tmp_path / "run", finished)


def test_no_more_than_one_update_waits_for_the_devices(recipe, tmp_path, monkeypatch):
    real = fitting.jit_functions
    given, waiting = [], []

    def jit_functions(*arguments):
        functions = real(*arguments)

        def train_step(state, batch):
            waiting.append(sum(not loss.is_ready() for loss in given))
            state, metrics = functions.train_step(state, batch)
            metrics["loss"] = late(metrics["loss"])
            given.append(metrics["loss"])
            return state, metrics

        return functions._replace(train_step=train_step)

    @jax.jit
    def late(loss):
        return jax.pure_callback(lambda value: (time.sleep(0.1), value)[1], loss, loss)

    monkeypatch.setattr(fitting, "jit_functions", jit_functions)
    fitting.fit(recipe(log_every=12, valid_every=12), tmp_path / "run")
    assert max(waiting) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_validating_saves_at_once_and_validates_later(number, recipe, finished, tmp_path, monkeypatch):
    real = fitting.validate
    scored = []

    def hurt(*arguments):
        if not scored and int(arguments[3].step) == 8:
            scored.append(8)
            os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(fitting, "validate", hurt)
    with pytest.raises(StoppedBySignal, match=rf"{number.name}: update 8 of 12 is saved\.") as stopped:
        fitting.fit(recipe(), tmp_path / "run")
    assert stopped.value.status == 128 + number
    assert [line["step"] for line in metrics(tmp_path / "run") if line["phase"] == "valid"] == [4]
    fitting.fit(recipe(), tmp_path / "run")
    same_run(tmp_path / "run", finished)


def test_a_validation_that_fails_costs_no_update(recipe, finished, tmp_path, monkeypatch):
    real = fitting.validate

    def fail(*arguments):
        raise RuntimeError("ptxas ended")

    monkeypatch.setattr(fitting, "validate", fail)
    with pytest.raises(RuntimeError, match="ptxas ended"):
        fitting.fit(recipe(), tmp_path / "run")
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest_step() == 4
    monkeypatch.setattr(fitting, "validate", real)
    fitting.fit(recipe(), tmp_path / "run")
    same_run(tmp_path / "run", finished)


def test_a_validation_that_a_signal_breaks_is_made_up_later(recipe, finished, tmp_path, monkeypatch):
    real = fitting.validate

    def killed(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("ptxas ended")

    monkeypatch.setattr(fitting, "validate", killed)
    with pytest.raises(StoppedBySignal, match="SIGTERM: update 4 of 12 is saved"):
        fitting.fit(recipe(), tmp_path / "run")
    monkeypatch.setattr(fitting, "validate", real)
    fitting.fit(recipe(), tmp_path / "run")
    same_run(tmp_path / "run", finished)


def same_run(workdir, expected):
    jax.tree.map(
        np.testing.assert_array_equal, load_params(workdir / "checkpoints"), load_params(expected / "checkpoints")
    )
    timeless = [
        [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in metrics(folder)]
        for folder in (workdir, expected)
    ]
    assert timeless[0] == timeless[1]


def test_a_run_that_goes_on_makes_no_second_state(recipe, finished, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    called = []
    real = fitting.jit_functions

    def jit_functions(*arguments):
        functions = real(*arguments)
        assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(functions.state))
        return functions._replace(initialize=lambda: called.append(0))

    monkeypatch.setattr(fitting, "jit_functions", jit_functions)
    fitting.fit(recipe(steps=13), workdir)
    assert not called


def test_checkpoints_between_validations_and_their_windows_change_nothing(recipe, finished, tmp_path, monkeypatch):
    # Checkpoints at 5 and 10, reports at even steps: the run is cut in the middle of a window.
    real = fitting.put_batch
    taken = []

    def stop_within_the_sixth_step(*arguments):
        taken.append(0)
        if len(taken) == 6 + 5:  # Validation takes some.
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(fitting, "put_batch", stop_within_the_sixth_step)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(recipe(save_every=5), tmp_path / "run")
    monkeypatch.setattr(fitting, "put_batch", real)
    kept = {int(path.name) for path in (tmp_path / "run/checkpoints").iterdir()}
    assert 5 in kept
    fitting.fit(recipe(save_every=5), tmp_path / "run")
    same_run(tmp_path / "run", finished)


def test_numbers_that_are_none_end_the_run_which_names_the_updates(recipe, tmp_path):
    config = dataclasses.replace(recipe(max_skipped=3), optimizer=OptimizerConfig(warmup=10, factor=1e30))
    with pytest.raises(RunError, match=r"updates 2 to 4 were skipped: .*--debug-nans"):
        fitting.fit(config, tmp_path / "run")
    assert metrics(tmp_path / "run")[0]["skipped"] == 1
    with pytest.raises(RunError, match=r"update 2: invalid value \(nan\) .* at .*transformer_jax/.*\.py:\d+, in "):
        fitting.fit(config, tmp_path / "run", debug_nans=True)


def test_tokenizers_of_a_start_that_was_cut_off_are_not_taken_over(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    corpus.load_corpus(recipe(), tmp_path / "run")
    other = dataclasses.replace(recipe(steps=1), tokenizer=TokenizerConfig(kind="bpe", size=300))
    fitting.fit(other, tmp_path / "run")
    assert json.loads((tmp_path / "run/tokenizer.json").read_text())["model"]["type"] == "BPE"


def test_early_stopping_stops(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "validate", lambda *_: {"loss": 1.0, "bleu": 5.0})
    fitting.fit(recipe(steps=40, patience=2), tmp_path / "run")
    # Best at 4, then stale at 8 and 12.
    assert [line["step"] for line in metrics(tmp_path / "run") if line["phase"] == "valid"] == [4, 8, 12]


def test_the_last_two_and_the_best_checkpoints_are_kept(recipe, tmp_path, monkeypatch):
    scores = {4: 1.0, 8: 7.0, 12: 2.0, 16: 3.0, 20: 2.5}
    monkeypatch.setattr(fitting, "validate", lambda *a: {"loss": 1.0, "bleu": scores[int(a[3].step)]})
    fitting.fit(recipe(steps=20), tmp_path / "run")
    kept = {int(path.name) for path in (tmp_path / "run/checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {8, 16, 20}
    assert json.loads((tmp_path / "run/results.json").read_text())["best_step"] == 8


def test_a_run_goes_on_with_more_steps_but_not_with_another_model(recipe, finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    other = dataclasses.replace(recipe(), optimizer=OptimizerConfig(warmup=11, factor=2.0))
    with pytest.raises(InputError, match=r"optimizer\.warmup 10 -> 11.*another --workdir"):
        fitting.fit(other, workdir)
    fitting.fit(recipe(steps=16), workdir)
    assert metrics(workdir)[-1]["step"] == 16


def test_a_run_that_has_gone_beyond_the_steps_asked_for_ends_and_is_scored(recipe, finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    (workdir / "results.json").unlink()
    fitting.fit(recipe(steps=7), workdir)
    assert metrics(workdir) == metrics(finished)
    assert (workdir / "results.json").exists()


def test_a_run_does_not_go_on_with_other_text_of_the_same_name(recipe, tmp_path):
    write_corpus(tmp_path)
    config = recipe(steps=4)
    paths = (str(tmp_path / f"{name}.tsv") for name in ("train", "valid", "test"))
    config = dataclasses.replace(config, data=DataConfig(*paths, max_length=16, batch_tokens=512))
    fitting.fit(config, tmp_path / "run")
    train = tmp_path / "train.tsv"
    before = train.read_text()
    train.write_text(f"{before}1 2\teins zwei\n")
    longer = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=8))
    with pytest.raises(InputError, match=r"run holds a run on other training text: 400 pairs then, 401 now, .*Restore"):
        fitting.fit(longer, tmp_path / "run")
    train.write_text(before)
    fitting.fit(longer, tmp_path / "run")
    assert metrics(tmp_path / "run")[-1]["step"] == 8


def test_progress_keeps_the_best():
    progress = Progress().after(10, 3.0).after(20, 2.0).after(30, 3.0)
    assert (progress.best_step, progress.best_score, progress.stale) == (10, 3.0, 2)
    assert progress.after(40, 3.5).stale == 0


def test_no_checkpoint_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        load_params(tmp_path)
    assert Checkpoints(tmp_path / "new").latest_step() is None


def test_a_corpus_of_long_lines_alone_is_refused(recipe, tmp_path):
    (tmp_path / "long.tsv").write_text("1 2 3\teins zwei drei\n" * 5)
    config = recipe()
    data = dataclasses.replace(config.data, train=str(tmp_path / "long.tsv"), max_length=3)
    with pytest.raises(InputError, match=r"Raise --data\.max-length"):
        fitting.fit(dataclasses.replace(config, data=data), tmp_path / "run")


def test_a_batch_that_cannot_be_divided_is_refused_and_can_be_mended_in_the_same_folder(recipe, tmp_path):
    # 512 tokens are 32 rows of 16, and 8 devices x 16 accumulated batches are 128 parts.
    with pytest.raises(InputError, match=r"32 rows of 16 tokens, too few for 128 parts.*Use --data.batch-tokens 2048"):
        fitting.fit(recipe(accumulate=16), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_state_that_does_not_fit_is_refused_before_it_is_made(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 20_000)
    with pytest.raises(InputError, match=r"needed per device, 0\.00 GiB available\. Use --mesh.data -1 --mesh.fsdp"):
        fitting.fit(recipe(), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_lack_of_memory_is_one_line_with_the_remedies(recipe, tmp_path, monkeypatch):
    def fail(*arguments):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(fitting, "jit_functions", fail)
    message = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.\nLargest allocations:"
    with pytest.raises(RunError, match=r"--data\.batch-tokens.*--training\.accumulate.*--mesh\.fsdp") as error:
        fitting.fit(recipe(), tmp_path / "run")
    assert "\n" not in str(error.value)
    message = "INTERNAL: something else"
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        fitting.fit(recipe(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_later_start_leaves_the_training_text_alone(recipe, tmp_path, monkeypatch):
    first = corpus.load_corpus(recipe(), tmp_path)
    save_config(recipe(), tmp_path / "config.json")
    opened = []
    real = corpus.open_pairs
    monkeypatch.setattr(corpus, "open_pairs", lambda *arguments: opened.append(arguments[-1]) or real(*arguments))
    later = corpus.load_corpus(recipe(), tmp_path)
    assert opened == ["valid", "test"]
    np.testing.assert_array_equal(later.train.source.values, first.train.source.values)


def test_what_cannot_be_used_leaves_no_folder_behind(recipe, tmp_path):
    config = recipe()
    no_data = dataclasses.replace(config, data=dataclasses.replace(config.data, train=str(tmp_path / "missing.tsv")))
    no_mesh = dataclasses.replace(config, mesh=MeshConfig(data=3))
    no_rows = recipe(accumulate=16)
    for wrong, profile in ((no_data, None), (no_mesh, None), (no_rows, None), (config, tmp_path / "profile")):
        with pytest.raises(InputError):
            fitting.fit(wrong, tmp_path / "run", profile)
        assert not (tmp_path / "run").exists()


def test_checkpoints_without_a_config_are_left_alone(recipe, finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    (workdir / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing, but there are checkpoints.*another --workdir"):
        fitting.fit(recipe(), workdir)
    assert (workdir / "tokenizer.json").exists()
