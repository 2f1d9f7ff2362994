"""results.json of a finished run, and what it records."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import jax
import pytest

from benchmarks.results import read_run
from transformer_jax.evaluation import score
from transformer_jax.storage.checkpoints import Checkpoints
from transformer_jax.training.corpus import load_corpus
from transformer_jax.training.environment import git_commit
from transformer_jax.training.loop import fit
from transformer_jax.training.results import earlier_results, finish_run


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git_commit_reads_the_commit_of_the_checkout(tmp_path, monkeypatch):
    checkout = tmp_path / "checkout"
    (checkout / "transformer_jax").mkdir(parents=True)
    (checkout / "README.md").write_text("one")
    module = checkout / "transformer_jax/training/environment.py"
    monkeypatch.setattr("transformer_jax.training.environment.__file__", str(module))

    def git(directory, *arguments):
        name = "-c", "user.name=A", "-c", "user.email=a@b.c"
        command = ["git", "-C", str(directory), *name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git(tmp_path, "init")
    assert git_commit() is None  # The package is in a subdirectory of another project.
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


def test_a_finished_run_writes_all_files_and_results(make_config, finished_run):
    names = {path.name for path in finished_run.iterdir()}
    assert {"config.json", "tokenizer.json", "checkpoints", "metrics.jsonl", "results.json", "curves.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    results = json.loads((finished_run / "results.json").read_text())
    assert "version:" in results["scores"]["BLEU"]["signature"]
    assert [valid["step"] for valid in results["validations"]] == [4, 8, 12]
    assert results["best_step"] in (4, 8, 12)
    assert results["history"] == []
    assert results["target_tokens_per_second"] > 0
    assert results["wall_seconds"] > 0
    assert results["versions"]["jax"] == jax.__version__
    assert results["hardware"]["processor"]
    assert results["hardware"]["cores"] > 0
    assert results["commit"] == git_commit()
    assert results["recipe"] == "numbers"
    assert results["config"] == dataclasses.asdict(make_config())
    assert results["training_pairs"] == 400
    assert results["two_sentence_scores"] is None


def test_phrasebook_runs_also_score_lines_of_two_sentences(make_config, finished_run, tmp_path, monkeypatch, capsys):
    config = make_config()
    corpus = load_corpus(config, finished_run)
    opened = []

    def open_two_lines(locator, *arguments):
        opened.append((locator, *arguments))
        return corpus.test[:2]

    # The phrasebook's lines would take a minute with an untrained model.
    monkeypatch.setattr("transformer_jax.training.results.open_pairs", open_two_lines)
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, test="phrasebook"))
    progress = Checkpoints(workdir / "checkpoints").progress()
    finish_run(config, workdir, corpus, progress, "numbers", "translate")
    before, after = (json.loads((run / "results.json").read_text()) for run in (finished_run, workdir))
    assert opened == [("phrasebook:two", "en", "de", "test")]
    assert after["scores"] == before["scores"]
    assert after["two_sentence_scores"].keys() == after["scores"].keys()
    value = after["two_sentence_scores"]["BLEU"]["value"]
    summary = capsys.readouterr().out.splitlines()[-3:]
    assert summary[0].startswith(f"Lines of two sentences: sacreBLEU {value:.2f}, chrF ")
    assert summary[1].startswith("Test set: sacreBLEU ")


def test_the_texts_of_both_sets_have_one_line_per_sentence(make_config, finished_run):
    test = [line.split("\t") for line in Path(make_config().data.test).read_text().splitlines()]
    assert (finished_run / "test.src.txt").read_text().splitlines() == [source for source, _ in test]
    references = (finished_run / "test.ref.txt").read_text().splitlines()
    assert references == [target for _, target in test]
    hypotheses = (finished_run / "test.hyp.txt").read_text().splitlines()
    scores = json.loads((finished_run / "results.json").read_text())["scores"]
    assert score(hypotheses, references, "de")["BLEU"]._asdict() == scores["BLEU"]
    assert len((finished_run / "valid.hyp.txt").read_text().splitlines()) == 23


def test_earlier_results_stay_in_the_history(make_config, finished_run, tmp_path):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    first = json.loads((workdir / "results.json").read_text())
    fit(make_config(steps=13), workdir, recipe="numbers")
    second = json.loads((workdir / "results.json").read_text())
    fit(make_config(steps=13), workdir, recipe="numbers")  # Scores the finished run again, with the same outcome.
    third = json.loads((workdir / "results.json").read_text())
    del first["history"]
    assert [valid["step"] for valid in second["validations"]] == [4, 8, 12, 13]
    assert second["history"] == third["history"] == [first]
    del third["history"]
    assert earlier_results(workdir, {**third, "best_step": 4}) == [first, third]


def test_a_loss_that_is_not_finite_adds_no_duplicate_results(tmp_path):
    results = {"scores": {}, "validations": [{"step": 1, "loss": float("nan"), "bleu": 0.0}]}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert earlier_results(tmp_path, results) == []


@pytest.mark.parametrize("content", ["{", "[]", "null", "\xff", '{"history": null}', '{"history": "abc"}'])
def test_damaged_results_are_renamed(content, tmp_path, caplog):
    (tmp_path / "results.json").write_bytes(content.encode("latin-1"))
    assert earlier_results(tmp_path, {}) == []
    (tmp_path / "results.json").write_text("{")
    assert earlier_results(tmp_path, {}) == []
    assert {path.name for path in tmp_path.iterdir()} == {"results.json.damaged-1", "results.json.damaged-2"}
    assert "results.json is damaged" in caplog.text


def test_benchmarks_can_read_the_results_of_a_run(make_config, finished_run, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/numbers.py").write_text("from transformer_jax.config import Config\nconfig = Config()\n")
    run = read_run(finished_run / "results.json", tmp_path)
    assert "--training.steps 12" in run.command


def test_every_scoring_counts_the_overlap_with_training_text(make_config, finished_run, tmp_path, capsys):
    # Sentences of one to four digits: many short lines are in both sets.
    data = make_config().data
    train, test = (Path(path).read_text().splitlines() for path in (data.train, data.test))
    sources = {line.partition("\t")[0] for line in train}
    common = sum(line.partition("\t")[0] in sources for line in test)
    expected = {"sentences": 29, "sources": common, "pairs": sum(line in train for line in test)}
    results = shutil.copytree(finished_run, tmp_path / "run") / "results.json"
    assert common > 0
    assert json.loads(results.read_text())["overlap"] == expected
    results.unlink()
    fit(make_config(), results.parent)  # Only scores the test set: its start reads no training text.
    assert json.loads(results.read_text())["overlap"] == expected
    assert f"{common} of 29 test sentences" in capsys.readouterr().out
