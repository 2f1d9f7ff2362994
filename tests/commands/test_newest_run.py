"""Without --workdir, commands use the newest finished run, and say which, its score and what else is there."""

import json
import os
from pathlib import Path

import pytest

from transformer_jax.commands.newest_run import newest_run
from transformer_jax.errors import InputError


@pytest.fixture
def add_run(tmp_path, monkeypatch):
    """Make a run directory in runs/. Each is newer than those before."""
    monkeypatch.chdir(tmp_path)
    times = iter(range(1_000_000, 2_000_000, 1000))

    def add(name, results=None):
        workdir = Path("runs") / name
        workdir.mkdir(parents=True)
        (workdir / "config.json").write_text("{}")
        if results is not None:
            (workdir / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
        time = next(times)
        for path in workdir.iterdir():
            os.utime(path, (time, time))
        return workdir

    return add


@pytest.fixture
def messages(caplog):
    """Return the log messages so far."""
    caplog.set_level("INFO")
    return lambda: [record.getMessage() for record in caplog.records]


def results(bleu, test="phrasebook"):
    return {"scores": {"BLEU": {"value": bleu, "signature": ""}}, "test": test}


def test_newest_finished_run_is_named_with_its_score(add_run, messages):
    add_run("b", results(30))
    expected = add_run("a", results(99.701))
    assert newest_run(activity="aligning") == expected
    assert messages() == ["aligning with runs/a (sacreBLEU 99.70 on phrasebook)"]


def test_low_score_is_a_warning(add_run, messages):
    add_run("a", results(4.99, "data/test.tsv"))
    newest_run()
    assert messages() == [
        "translating with runs/a (sacreBLEU 4.99 on data/test.tsv)",
        "a score below 5 means that most translations are wrong. Train this run longer with --training.steps, or "
        "choose another run with --workdir.",
    ]


def test_newer_unfinished_runs_are_named(add_run, messages):
    add_run("old")
    expected = add_run("a", results(5))
    add_run("b")
    add_run("c c")
    assert newest_run() == expected
    assert messages() == [
        "runs/c c has no results.json: its training has not finished, or it was imported. 1 other run(s) have none or "
        "a damaged one. To use it, add --workdir 'runs/c c'",
        "translating with runs/a (sacreBLEU 5.00 on phrasebook)",
    ]


def test_unfinished_run_is_not_chosen(add_run):
    add_run("a")
    with pytest.raises(InputError) as error:
        newest_run()
    assert str(error.value) == (
        "no finished run in runs/. runs/a has no results.json: its training has not finished, or it was imported. "
        "To use its best checkpoint, set --workdir runs/a"
    )


def test_file_in_place_of_the_directory_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").touch()
    with pytest.raises(InputError, match="no finished run in runs/"):
        newest_run()


HOSTILE_RESULTS = [
    *("", "nonsense", "[]", "null", "9" * 5000, "[" * 100_000, '{"scores": {"BLEU": null}}', '{"scores": []}'),
    *('{"scores": {"BLEU": {"value": NaN}}, "test": "a"}', '{"scores": {"BLEU": {"value": "9"}}, "test": "a"}'),
    *('{"scores": {"BLEU": {"value": 1e999}}, "test": "a"}', '{"scores": {"BLEU": {"value": 9}}, "test": 1}'),
]


@pytest.mark.parametrize("content", HOSTILE_RESULTS, ids=range(len(HOSTILE_RESULTS)))
def test_damaged_results_are_named_and_ignored(content, add_run, messages):
    expected = add_run("a", results(50))
    add_run("b", content)
    assert newest_run() == expected
    warning, choice = messages()
    assert warning.startswith("runs/b has a damaged results.json (it ")
    assert warning.endswith(" To use it, add --workdir runs/b")
    assert choice.startswith("translating with runs/a")


def test_only_damaged_results_are_refused(add_run):
    (add_run("a") / "results.json").mkdir()
    with pytest.raises(InputError, match=r"runs/a has a damaged results\.json \(.*\)\. To use its best checkpoint"):
        newest_run()


def test_hostile_results_are_one_short_line(add_run, messages):
    add_run("a", results(50, "\x1b[2J\nerror: forged\u202e" + "x" * 10_000))
    newest_run()
    [line] = messages()
    assert len(line) < 200
    assert line.startswith("translating with runs/a (sacreBLEU 50.00 on \\u001b[2J\\nerror: forged\\u202exxx")


def test_run_without_a_score_is_named_without_one(add_run, messages):
    add_run("a", {"scores": {}})
    newest_run()
    assert messages() == ["translating with runs/a"]
