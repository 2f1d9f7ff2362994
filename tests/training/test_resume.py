"""An interrupted run resumes and ends with the same bytes, or refuses to resume."""

import dataclasses
import gzip
import json
import os
import shutil
import signal
from contextlib import nullcontext

import jax
import numpy as np
import pytest
from number_words import assert_same_run, metrics_lines, write_corpus

from transformer_jax.config import (
    EvaluationConfig,
    OptimizerConfig,
    TokenizerConfig,
    load_config,
    save_config,
)
from transformer_jax.data.records import Pair
from transformer_jax.data.run_data import RunData
from transformer_jax.data.run_tokenizers import save_tokenizers, train_tokenizers
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
        if len(calls) == 6:
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
    loop.fit(make_config(steps=16, remat="blocks"), workdir)
    assert metrics_lines(workdir)[-1]["step"] == 16
    # The run was trained on other chips.
    model = dataclasses.replace(make_config().model, attention="pallas")
    loop.require_same_config(dataclasses.replace(make_config(), model=model), workdir)


@pytest.mark.parametrize(
    ("saved", "requested", "has_checkpoint", "process", "is_accepted"),
    [
        ("/a", "/b", True, 0, True),
        ("/a", "/b", False, 0, False),
        ("/a", "/b", False, 1, True),
        ("", "/b", True, 0, False),
        ("/a", "", True, 1, False),
    ],
)
def test_path_of_the_initial_run_may_change_after_a_checkpoint(
    saved, requested, has_checkpoint, process, is_accepted, make_config, tmp_path, monkeypatch
):
    save_config(make_config(init=saved), tmp_path / "config.json")
    (tmp_path / "checkpoints" / ("4" if has_checkpoint else "")).mkdir(parents=True)
    monkeypatch.setattr(jax, "process_index", lambda: process)
    with nullcontext() if is_accepted else pytest.raises(InputError, match=rf"init {saved} -> {requested}\. Restore"):
        loop.require_same_config(make_config(init=requested), tmp_path)


def test_a_missing_tokenizer_package_is_reported_before_training(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    config = dataclasses.replace(make_config(), evaluation=EvaluationConfig("ja-mecab"))
    with pytest.raises(InputError, match=r'Run: pip install "sacrebleu\[ja\]"$'):
        loop.fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fewer_steps_than_completed_are_refused(make_config, finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "copy")
    before = contents(workdir)
    with pytest.raises(
        InputError, match=r"training\.steps is 11, but .*copy has completed 12 .* Set --training\.steps to at least 12"
    ):
        loop.fit(make_config(steps=11), workdir)
    assert contents(workdir) == before


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def own_texts(make_config, finished_run, tmp_path):
    """A copy of the finished run, and the config of that run for copies of its texts."""
    write_corpus(tmp_path)
    paths = {name: str(tmp_path / f"{name}.tsv") for name in ("train", "valid", "test")}
    config = make_config()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **paths))
    return config, shutil.copytree(finished_run, tmp_path / "run")


def with_steps(config, steps):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, steps=steps))


def test_a_run_resumes_with_the_same_text_in_other_files(own_texts, tmp_path):
    config, workdir = own_texts
    with gzip.open(tmp_path / "packed.tsv.gz", "wt", encoding="utf-8") as file:
        file.write((tmp_path / "train.tsv").read_text())
    rows = [line.split("\t") for line in (tmp_path / "valid.tsv").read_text().splitlines()]
    (tmp_path / "valid.jsonl").write_text("".join(json.dumps({"eng": en, "German": de}) + "\n" for en, de in rows))
    changes = {"train": str(tmp_path / "packed.tsv.gz"), "valid": str(tmp_path / "valid.jsonl"), "on_error": "skip"}
    changes |= {"source": "eng", "target": "German"}
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
    loop.fit(with_steps(other, 16), workdir)
    assert metrics_lines(workdir)[-1]["step"] == 16
    assert load_config(workdir / "config.json") == with_steps(other, 16)


def test_other_text_is_refused_and_changes_nothing(own_texts, tmp_path):
    config, workdir = own_texts
    before = contents(workdir)
    train, valid = tmp_path / "train.tsv", tmp_path / "valid.tsv"
    train.write_text(train.read_text() + "1 2\teins zwei\n")
    valid.write_text(valid.read_text().replace("eins", "acht"))
    with pytest.raises(
        InputError,
        match=r"the training text .*train\.tsv has 401 instead of 400 pairs, and the validation text .*valid\.tsv has "
        r"23 pairs as before, but other targets\. Restore the text, or choose another --workdir\.",
    ):
        loop.fit(with_steps(config, 16), workdir)
    test = dataclasses.replace(config, data=dataclasses.replace(config.data, test=str(valid)))
    with pytest.raises(InputError, match=r"the test set .*valid\.tsv has 23 instead of 29 pairs"):
        loop.fit(test, workdir)
    assert contents(workdir) == before


def test_another_language_is_refused_for_the_same_text(own_texts):
    config, workdir = own_texts
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, target="nl"))
    with pytest.raises(InputError, match=r"data\.target de -> nl"):
        loop.fit(other, workdir)


def test_an_earlier_run_resumes_by_sizes_and_records_its_texts(own_texts, tmp_path):
    config, workdir = own_texts
    (workdir / "data.json").unlink()
    with pytest.raises(InputError, match=r"data\.train .*train\.tsv -> .*train\.tsv"):
        loop.fit(config, workdir)
    save_config(config, workdir / "config.json")
    train = tmp_path / "train.tsv"
    before = train.read_text()
    train.write_text(f"{before}1 2\teins zwei\n")
    with pytest.raises(
        InputError, match=r"training text of the run in .*run has changed \(.*: 400, .* -> 401, .*\)\. Restore the text"
    ):
        loop.fit(config, workdir)
    assert not (workdir / "data.json").exists(), "the refused text must not become that of the run"
    train.write_text(before)
    loop.fit(config, workdir)
    assert RunData.load(workdir).train.identity.pairs == 400


def test_a_later_start_does_not_read_the_training_text(make_config, tmp_path, monkeypatch):
    first = corpus.load_corpus(make_config(), tmp_path)
    save_config(make_config(), tmp_path / "config.json")
    first.texts.save(tmp_path)
    opened = []
    real = corpus.open_pairs
    monkeypatch.setattr(corpus, "open_pairs", lambda *arguments: opened.append(real(*arguments)) or opened[-1])
    monkeypatch.setattr(corpus, "unknown_shares", lambda *_: pytest.fail("the validation text is encoded again"))
    later = corpus.load_corpus(make_config(), tmp_path)
    assert [text.identity is None for text in opened] == [True, False, False]
    assert later.texts == first.texts
    np.testing.assert_array_equal(later.train.source.values, first.train.source.values)


def test_processes_compare_their_texts_without_time_limit(make_config, tmp_path, monkeypatch):
    limits = {}
    monkeypatch.setattr(corpus, "require_agreement", lambda stage, facts, seconds: limits.update({stage: seconds}))
    corpus.load_corpus(make_config(), tmp_path)
    assert limits == {"data": float("inf")}


def test_missing_training_text_is_reported_despite_the_cache(own_texts, tmp_path):
    config, workdir = own_texts
    (tmp_path / "train.tsv").unlink()
    with pytest.raises(InputError, match=r"train\.tsv does not exist"):
        loop.fit(config, workdir)


def test_skipped_rows_are_reported_at_later_starts(make_config, tmp_path, caplog):
    train = tmp_path / "train.tsv"
    train.write_text("1\teins\n" * 3 + "no tab\n")
    data = dataclasses.replace(make_config().data, train=str(train), on_error="skip")
    config = dataclasses.replace(make_config(), data=data)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("INFO"):
            corpus.load_corpus(config, tmp_path).texts.save(tmp_path)
        save_config(config, tmp_path / "config.json")
        assert "3 training pairs (0 excluded: empty or over 16 tokens; 1 invalid rows skipped)" in caplog.text


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_unknown_text_of_an_initial_run_is_warned_about(kind, make_config, tmp_path, caplog):
    config = dataclasses.replace(make_config(init=str(tmp_path)), tokenizer=TokenizerConfig(kind=kind, size=300))
    save_tokenizers(train_tokenizers(config.tokenizer, [Pair("1 2", "eins zwei")] * 2), tmp_path)
    train = tmp_path / "train.tsv"
    train.write_text("1 2\teins 日本\n" * 3)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, train=str(train)))
    (tmp_path / "run").mkdir()
    for _ in range(2):
        caplog.clear()
        corpus.load_corpus(config, tmp_path / "run").texts.save(tmp_path / "run")
        save_config(config, tmp_path / "run/config.json")
        assert "of the target tokens" in caplog.text
        assert "If the tokenizers come from --training.init, choose a run for these languages." in caplog.text


def test_text_of_single_words_is_refused(make_config, tmp_path):
    (tmp_path / "train.tsv").write_text("a b\tc d\n")
    data = dataclasses.replace(make_config().data, train=str(tmp_path / "train.tsv"))
    with pytest.raises(InputError, match=r"the source vocabulary contains only special tokens\. .*--tokenizer\.kind"):
        loop.fit(dataclasses.replace(make_config(), data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_checkpoints_without_a_config_are_refused(make_config, finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "copy")
    (workdir / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing, but checkpoints exist.*another --workdir"):
        loop.fit(make_config(), workdir)
    assert (workdir / "tokenizer.json").exists()
