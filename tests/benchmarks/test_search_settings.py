"""Beam sizes and length penalties are scored on the validation set, recorded and shown in a table."""

import dataclasses
import json

import pytest
from tiny_run import SOURCES, TARGETS, TINY_CONFIG, make_run

from benchmarks import search_settings
from transformer_jax import Translator
from transformer_jax.errors import InputError
from transformer_jax.evaluation import score


@pytest.fixture
def run(tmp_path):
    """A run without its training and test text."""
    (tmp_path / "valid.en").write_text("\n".join(SOURCES) + "\n")
    (tmp_path / "valid.de").write_text("\n".join(TARGETS) + "\n")
    data = dataclasses.replace(TINY_CONFIG.data, valid=f"{tmp_path}/valid.{{lang}}", train="none", test="none")
    return make_run(tmp_path / "runs/one", dataclasses.replace(TINY_CONFIG, data=data))


def test_each_pair_is_scored_once_and_greedy_only_once(run, tmp_path, capsys):
    search_settings.main([str(run), "--beams", "1", "3", "--penalties", "0.5", "0"], tmp_path)
    record = json.loads((tmp_path / search_settings.RECORDS / "one.json").read_text())
    assert [(row["beam"], row["length_penalty"]) for row in record["rows"]] == [(1, 0), (3, 0.5), (3, 0)]
    for row in record["rows"]:
        translations = Translator.load(run).translate(SOURCES, row["beam"], row["length_penalty"])
        assert row["BLEU"] == score([translation.text for translation in translations], TARGETS, "de")["BLEU"].value
    table = search_settings.search_tables(tmp_path, "on")
    assert table.startswith("| one | length penalty 0 | length penalty 0.5 |\n| --- | --- | --- |\n| beam 1 | ")
    assert table.splitlines()[2].endswith("|  |")
    assert table in capsys.readouterr().out
    assert search_settings.search_tables(tmp_path, "two") == "No run is recorded yet.\n"


def test_record_keeps_only_scores_of_the_same_weights(run, tmp_path):
    path = tmp_path / search_settings.RECORDS / "one.json"

    def rows(*arguments):
        search_settings.main([str(run), *arguments], tmp_path)
        return [(row["beam"], row["length_penalty"]) for row in json.loads(path.read_text())["rows"]]

    assert rows("--beams", "2", "--penalties", "0", "0.5") == [(2, 0), (2, 0.5)]
    assert rows("--beams", "2", "3", "--penalties", "0.5") == [(2, 0), (2, 0.5), (3, 0.5)]
    for changed in ({"step": 1009}, {"checksum": "of another run with this name"}):
        assert len(rows("--beams", "2", "--penalties", "0", "0.5")) > 1
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
        assert rows("--beams", "2", "--penalties", "0.5") == [(2, 0.5)]
    for damaged in ("{", "[]", json.dumps({"run": "one"})):
        path.write_text(damaged)
        with pytest.raises(InputError, match=r"one\.json is damaged or has an old format .* Restore the file"):
            rows("--beams", "2", "--penalties", "0.5")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--beams"], "no beam size or length penalty given"),
        (["--penalties"], "no beam size or length penalty given"),
        (["--beams", "2", "0"], "decoding.beam is 0"),
        (["--penalties", "-1"], "decoding.length_penalty is -1.0"),
    ],
)
def test_invalid_settings_are_refused_before_loading(arguments, problem, tmp_path):
    if arguments[0] == "--penalties":
        arguments = ["--beams", "3", *arguments]
    with pytest.raises(InputError, match=problem):
        search_settings.main([str(tmp_path / "no run"), *arguments], tmp_path)


def test_missing_record_and_missing_run(tmp_path):
    assert search_settings.search_tables(tmp_path, "") == "No run is recorded yet.\n"
    with pytest.raises(InputError, match=r"no run directory given\."):
        search_settings.main([], tmp_path)
