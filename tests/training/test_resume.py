"""An interrupted run resumes and ends with the same bytes, or refuses to resume."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from number_words import assert_same_run, metrics_lines, write_corpus

from transformer_jax.config import DataConfig, EvaluationConfig, OptimizerConfig, TokenizerConfig, save_config
from transformer_jax.errors import InputError, StoppedBySignal
from transformer_jax.storage.checkpoints import Checkpoints
from transformer_jax.training import corpus, loop


def test_an_interrupted_run_ends_with_the_same_bytes(make_config, finished_run, tmp_path, monkeypatch):
    config = make_config()
    real = loop.score_validation_set

    def interrupt_the_last(*arguments):
        values = real(*arguments)
        if int(arguments[3].step) == 12:
            raise KeyboardInterrupt
        return values

    monkeypatch.setattr(loop, "score_validation_set", interrupt_the_last)
    with pytest.raises(KeyboardInterrupt):
        loop.fit(config, tmp_path / "run")
    monkeypatch.setattr(loop, "score_validation_set", real)
    loop.fit(config, tmp_path / "run")
    assert_same_run(tmp_path / "run", finished_run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_postpones_the_validation(number, make_config, finished_run, tmp_path, monkeypatch):
    real = loop.score_validation_set
    signalled = []

    def send_signal(*arguments):
        if not signalled and int(arguments[3].step) == 8:
            signalled.append(8)
            os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(loop, "score_validation_set", send_signal)
    with pytest.raises(StoppedBySignal, match=rf"{number.name}: update 8 of 12 is saved\.") as stopped:
        loop.fit(make_config(), tmp_path / "run")
    assert stopped.value.status == 128 + number
    assert [line["step"] for line in metrics_lines(tmp_path / "run") if line["phase"] == "valid"] == [4]
    loop.fit(make_config(), tmp_path / "run")
    assert_same_run(tmp_path / "run", finished_run)


def test_a_failed_validation_loses_no_update(make_config, finished_run, tmp_path, monkeypatch):
    real = loop.score_validation_set

    def fail(*arguments):
        raise RuntimeError("ptxas ended")

    monkeypatch.setattr(loop, "score_validation_set", fail)
    with pytest.raises(RuntimeError, match="ptxas ended"):
        loop.fit(make_config(), tmp_path / "run")
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest_step() == 4
    monkeypatch.setattr(loop, "score_validation_set", real)
    loop.fit(make_config(), tmp_path / "run")
    assert_same_run(tmp_path / "run", finished_run)


def test_a_validation_broken_by_a_signal_is_repeated(make_config, finished_run, tmp_path, monkeypatch):
    real = loop.score_validation_set

    def fail_after_signal(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("ptxas ended")

    monkeypatch.setattr(loop, "score_validation_set", fail_after_signal)
    with pytest.raises(StoppedBySignal, match="SIGTERM: update 4 of 12 is saved"):
        loop.fit(make_config(), tmp_path / "run")
    monkeypatch.setattr(loop, "score_validation_set", real)
    loop.fit(make_config(), tmp_path / "run")
    assert_same_run(tmp_path / "run", finished_run)


def test_a_resumed_run_initializes_no_second_state(make_config, finished_run, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished_run, tmp_path / "copy")
    called = []
    real = loop.jit_functions

    def jit_functions(*arguments):
        functions = real(*arguments)
        assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(functions.state))
        return functions._replace(initialize=lambda: called.append(0))

    monkeypatch.setattr(loop, "jit_functions", jit_functions)
    loop.fit(make_config(steps=13), workdir)
    assert not called


def test_resuming_between_two_reports_changes_nothing(make_config, finished_run, tmp_path, monkeypatch):
    # Checkpoints at steps 5 and 10, reports at even steps: the run is interrupted between two reports.
    real = loop.put_batch
    calls = []

    def stop_within_the_sixth_step(*arguments):
        calls.append(0)
        if len(calls) == 6 + 5:  # The validation at step 4 also calls put_batch.
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "put_batch", stop_within_the_sixth_step)
    with pytest.raises(KeyboardInterrupt):
        loop.fit(make_config(save_every=5), tmp_path / "run")
    monkeypatch.setattr(loop, "put_batch", real)
    assert 5 in {int(path.name) for path in (tmp_path / "run/checkpoints").iterdir()}
    loop.fit(make_config(save_every=5), tmp_path / "run")
    assert_same_run(tmp_path / "run", finished_run)


def test_tokenizers_of_an_unfinished_start_are_replaced(make_config, tmp_path):
    (tmp_path / "run").mkdir()
    corpus.load_corpus(make_config(), tmp_path / "run")
    other = dataclasses.replace(make_config(steps=1), tokenizer=TokenizerConfig(kind="bpe", size=300))
    loop.fit(other, tmp_path / "run")
    assert json.loads((tmp_path / "run/tokenizer.json").read_text())["model"]["type"] == "BPE"


def test_only_changeable_fields_may_differ_when_resuming(make_config, finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "copy")
    other = dataclasses.replace(make_config(), optimizer=OptimizerConfig(warmup=11, factor=2.0))
    with pytest.raises(InputError, match=r"optimizer\.warmup 10 -> 11.*another --workdir"):
        loop.fit(other, workdir)
    # It decides which checkpoint is the best.
    other = dataclasses.replace(make_config(), evaluation=EvaluationConfig("char"))
    with pytest.raises(InputError, match=r"evaluation\.tokenize auto -> char.*another --workdir"):
        loop.fit(other, workdir)
    loop.fit(make_config(steps=16), workdir)
    assert metrics_lines(workdir)[-1]["step"] == 16


def test_a_missing_tokenizer_package_is_reported_before_training(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    config = dataclasses.replace(make_config(), evaluation=EvaluationConfig("ja-mecab"))
    with pytest.raises(InputError, match=r'Run: pip install "sacrebleu\[ja\]"$'):
        loop.fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fewer_steps_than_completed_only_score_the_run(make_config, finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "copy")
    (workdir / "results.json").unlink()
    loop.fit(make_config(steps=7), workdir)
    assert metrics_lines(workdir) == metrics_lines(finished_run)
    assert (workdir / "results.json").exists()


def test_changed_training_text_is_refused(make_config, tmp_path):
    write_corpus(tmp_path)
    config = make_config(steps=4)
    paths = (str(tmp_path / f"{name}.tsv") for name in ("train", "valid", "test"))
    config = dataclasses.replace(config, data=DataConfig(*paths, max_length=16, batch_tokens=512))
    loop.fit(config, tmp_path / "run")
    train = tmp_path / "train.tsv"
    before = train.read_text()
    train.write_text(f"{before}1 2\teins zwei\n")
    longer = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=8))
    with pytest.raises(
        InputError, match=r"training text of the run in .*run has changed \(.*: 400, .* -> 401, .*\)\. Restore the text"
    ):
        loop.fit(longer, tmp_path / "run")
    train.write_text(before)
    loop.fit(longer, tmp_path / "run")
    assert metrics_lines(tmp_path / "run")[-1]["step"] == 8


def test_a_later_start_does_not_read_the_training_text(make_config, tmp_path, monkeypatch):
    first = corpus.load_corpus(make_config(), tmp_path)
    save_config(make_config(), tmp_path / "config.json")
    opened = []
    real = corpus.open_pairs
    monkeypatch.setattr(corpus, "open_pairs", lambda *arguments: opened.append(arguments[-1]) or real(*arguments))
    later = corpus.load_corpus(make_config(), tmp_path)
    assert opened == ["valid", "test"]
    np.testing.assert_array_equal(later.train.source.values, first.train.source.values)


def test_checkpoints_without_a_config_are_refused(make_config, finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "copy")
    (workdir / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing, but checkpoints exist.*another --workdir"):
        loop.fit(make_config(), workdir)
    assert (workdir / "tokenizer.json").exists()
