"""The compare command, with runs whose files are written by hand."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from documented import ROOT
from sacrebleu.metrics import CHRF
from sacrebleu.significance import PairedTest
from scored_run import BAD, GOOD, REFERENCES, SOURCES, write_scored_run

from transformer_jax.__main__ import dispatch
from transformer_jax.commands.cli import run_command
from transformer_jax.config import Config, DataConfig, EvaluationConfig, TrainingConfig
from transformer_jax.data.languages import find_language
from transformer_jax.terminal import CONTROL_CHARACTERS


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(PairedTest, "_DEFAULT_SAMPLES", {"ar": 211, "bs": 101})


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The names of two runs in the working directory, with different seeds and translations."""
    monkeypatch.chdir(tmp_path)
    write_scored_run(tmp_path / "good", GOOD)
    write_scored_run(tmp_path / "bad", BAD, Config(training=TrainingConfig(seed=3)))
    return ["good", "bad"]


@pytest.fixture
def compare(capsys):
    """Call the command and return its status, output and errors."""

    def call(*arguments):
        status = run_command(dispatch, ["compare", *map(str, arguments)])
        return status, *capsys.readouterr()

    return call


def refusal(result):
    """Return the message of a refused comparison."""
    status, output, errors = result
    assert (status, output, errors.count("\n")) == (2, "", 1), errors
    return errors.removeprefix("error: ").strip()


def test_text_shows_settings_scores_and_lines(runs, compare):
    status, output, errors = compare(*runs)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert "training.seed  0       3" in lines
    assert "Scores on the same test set of 13 lines." in output
    [good, bad] = (line.split() for line in lines if line.startswith("BLEU"))
    assert good[1] == "good"
    assert len(good) == 3
    assert bad[1] == "bad"
    assert float(bad[3]) == pytest.approx(float(bad[2]) - float(good[2]), abs=0.011)
    assert "- BLEU `nrefs:1|case:mixed|eff:no|tok:13a|" in output
    assert "line 1, chrF " in output
    assert f"\nsource     {SOURCES[0]}\nreference  {REFERENCES[0]}\ngood       {GOOD[0]}\nbad        {BAD[0]}" in output


def test_lines_are_sorted_by_their_range_of_chrf(runs, compare, tmp_path):
    write_scored_run(tmp_path / "third", [*REFERENCES[:-1], "Nein."])
    comparison = json.loads(compare(*runs, "third", "--format", "json")[1])
    ranges = {
        number: sorted(CHRF().sentence_score(text, [reference]).score for text in texts)
        for number, (reference, *texts) in enumerate(
            zip(REFERENCES, GOOD, BAD, [*REFERENCES[:-1], "Nein."], strict=True), 1
        )
    }
    widest = sorted(ranges, key=lambda number: ranges[number][0] - ranges[number][-1])
    assert [line["number"] for line in comparison["lines"]] == widest[:10]
    assert [sorted(line["chrf"]) for line in comparison["lines"]] == [ranges[number] for number in widest[:10]]
    first = comparison["lines"][0]
    assert first["hypotheses"][1] == BAD[first["number"] - 1]


def test_json_and_markdown_have_the_same_numbers(runs, compare):
    values = json.loads(compare(*runs, "--format", "json")[1])
    assert values["runs"] == runs
    assert values["settings"] == {"training.seed": [0, 3]}
    assert (values["sentences"], values["seed"]) == (13, 12345)
    for name in ("BLEU", "chrF"):
        first, second = values["scores"][name]
        assert first["bootstrap"] is None
        difference = f"{second['value'] - first['value']:+.2f}"
        row = [name, "bad", f"{second['value']:.2f}", difference]
        row += [f"{second[test]:.4f}" for test in ("bootstrap", "randomization")]
        markdown = [line.split() for line in compare(*runs, "--format", "markdown")[1].splitlines()]
        assert [cell for value in row for cell in ("|", value)] + ["|"] in markdown


def test_output_escapes_what_text_and_markdown_would_obey(compare, tmp_path):
    write_scored_run(tmp_path / "a", ["\u001b[31m|<b>*x*\u000d", *GOOD[1:]])
    write_scored_run(tmp_path / "b", BAD)
    text = compare(tmp_path / "a", tmp_path / "b")[1]
    assert "\x1b" not in text
    assert r"\u001b[31m|<b>*x*\u000d" in text
    assert r"\\u001b\[31m\|\<b\>\*x\*\\u000d" in compare(tmp_path / "a", tmp_path / "b", "--format", "markdown")[1]


def test_references_to_characters_are_escaped_in_markdown(compare, tmp_path):
    write_scored_run(tmp_path / "a", ["&lt;b&gt; & c", *GOOD[1:]])
    write_scored_run(tmp_path / "b", BAD)
    assert r"\&lt;b\&gt; \& c" in compare(tmp_path / "a", tmp_path / "b", "--format", "markdown")[1]


@pytest.mark.parametrize("format", ["text", "json", "markdown"])
def test_names_that_are_not_utf8_are_escaped(format, compare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"a\xff\x9b")
    write_scored_run(tmp_path / name, ["\u202eabc\x85\x9b31m\x7f", *GOOD[1:]])
    write_scored_run(tmp_path / "b", BAD)
    status, output, errors = compare(name, "b", "--format", format)
    assert (status, errors) == (0, "")
    assert "\\udcff" in output
    assert not CONTROL_CHARACTERS.search(output)
    if format == "json":
        values = json.loads(output)
        assert values["runs"] == [name, "b"]
        assert "\u202eabc\x85\x9b31m\x7f" in [line["hypotheses"][0] for line in values["lines"]]


def test_equal_runs_are_called_equal(compare, tmp_path):
    for name in ("a", "b"):
        write_scored_run(tmp_path / name, GOOD)
    output = compare(tmp_path / "a", tmp_path / "b")[1]
    assert "All settings are equal." in output
    assert "All translations are equal." in output
    assert output.count("1.0000") == 4


def test_few_differing_lines_are_noted(compare, tmp_path):
    write_scored_run(tmp_path / "a", GOOD)
    write_scored_run(tmp_path / "b", [*GOOD[:-1], "Nein."])
    output = compare(tmp_path / "a", tmp_path / "b")[1]
    assert f"chrF, {tmp_path}/b: the number of lines that differ is 1. With so few, a p-value" in output


@pytest.mark.parametrize(
    ("config", "tokenizer"),
    [
        (Config(data=DataConfig(target="Japanese")), "char"),
        (Config(data=DataConfig(target="jpn"), evaluation=EvaluationConfig("13a")), "13a"),
    ],
)
def test_scores_use_the_tokenizer_of_the_runs(config, tokenizer, compare, tmp_path):
    for name, lines in (("a", GOOD), ("b", BAD)):
        write_scored_run(tmp_path / name, lines, config)
    values = json.loads(compare(tmp_path / "a", tmp_path / "b", "--format", "json")[1])
    assert f"tok:{tokenizer}|" in values["scores"]["BLEU"][0]["signature"]


def test_fields_newer_than_a_run_have_their_defaults(runs, compare, tmp_path):
    results = json.loads((path := tmp_path / "bad/results.json").read_text())
    del results["config"]["evaluation"]
    del results["config"]["training"]["ema"]
    results["config"]["training"]["removed"] = 5
    path.write_text(json.dumps(results))
    settings = json.loads(compare(*runs, "--format", "json")[1])["settings"]
    assert settings == {"training.seed": [0, 3], "training.removed": [None, 5]}


# Bad input


@pytest.mark.parametrize("paths", [[], ["good"]])
def test_fewer_than_two_runs_are_refused(paths, runs, compare):
    message = refusal(compare(*paths))
    assert message == f"the number of runs is {len(paths)}. Name at least two run directories."


def test_the_same_run_twice_is_refused(runs, compare):
    os.symlink("good", "link")
    for other in ("good", "./good/", "link"):
        assert "are the same run directory. Name different runs." in refusal(compare("good", "bad", other))


def test_directories_without_a_finished_run_are_named(runs, compare, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "new run").mkdir()
    (tmp_path / "new run/config.json").write_text("{}")
    assert refusal(compare("good", "none")) == "none does not exist. Name the directory of a finished run."
    assert refusal(compare("file", "good")) == "file is not a directory. Name the directory of a finished run."
    assert refusal(compare("good", "empty")).startswith("empty is not a run directory: results.json is missing.")
    assert refusal(compare("good", "new run")).endswith("Run its train command again, which resumes it.")


@pytest.mark.parametrize("name", ["test.src.txt", "test.hyp.txt", "test.ref.txt"])
def test_missing_or_damaged_text_asks_to_train_again(name, runs, compare, tmp_path):
    path = tmp_path / "bad" / name
    remedy = "Run the train command of this run again, which scores it anew."
    for damage, problem in (
        (lambda: path.write_bytes(b"\xff" + path.read_bytes()), f"bad/{name} is damaged ("),
        (lambda: path.write_text("one\nline too few\n"), "bad is damaged: its files must have equal numbers of lines"),
        (path.unlink, f"bad/{name} is missing."),
        (path.mkdir, f"bad/{name} is damaged ("),
    ):
        damage()
        message = refusal(compare(*runs))
        assert message.startswith(problem)
        assert message.endswith(remedy)


def test_empty_test_sets_are_refused(compare, tmp_path):
    for name in ("a", "b"):
        write_scored_run(tmp_path / name, [], sources=[], references=[])
    assert "test.hyp.txt 0" in refusal(compare(tmp_path / "a", tmp_path / "b"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"config": {}}',
        '{"config": []}',
        '{"config": {"data": 3}}',
        "\xff",
        "[" * 10**5,
        '{"config": {"data": {"target": 3}}}',
        '{"config": {"data": {}, "evaluation": {"tokenize": "words"}}}',
    ],
    ids=range(13),
)
def test_damaged_results_are_refused(content, runs, compare, tmp_path):
    (tmp_path / "bad/results.json").write_text(content, encoding="latin-1")
    result = compare(*runs)
    if content == '{"config": {}}':  # All fields have their defaults.
        assert result[0] == 0
    else:
        assert "bad/results.json is damaged (" in refusal(result)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"references": ["Nein.", *REFERENCES[1:-1], "Nein."]}, "line 1 and 1 others of test.ref.txt"),
        ({"sources": [*SOURCES[:-1], "other"]}, "line 13 of test.src.txt"),
        (
            {"sources": SOURCES[:-1], "references": REFERENCES[:-1], "hypotheses": BAD[:-1]},
            "13 and 12 lines of test.src",
        ),
    ],
)
def test_other_test_sets_are_refused(changes, difference, runs, compare, tmp_path):
    write_scored_run(tmp_path / "other", **{"hypotheses": BAD, **changes})
    message = refusal(compare("good", "other"))
    assert message.startswith(f"good and other have different test sets: {difference}")


def test_another_path_of_the_same_test_set_is_accepted(runs, compare, tmp_path):
    write_scored_run(tmp_path / "moved", BAD, Config(data=DataConfig(test="other/test.tsv")))
    assert compare("good", "moved")[0] == 0


@pytest.mark.parametrize(
    ("data", "evaluation", "message"),
    [
        ({"target": "deu"}, "auto", None),
        ({}, "13a", None),
        ({}, "char", "good is scored with the tokenizer 13a and other with char. Train "),
        ({"target": "nld"}, "auto", "good translates to de and other to nld. Name runs with the same target language."),
    ],
)
def test_runs_must_be_scored_in_the_same_way(data, evaluation, message, runs, compare, tmp_path):
    config = Config(data=DataConfig(**data), evaluation=EvaluationConfig(evaluation))
    write_scored_run(tmp_path / "other", BAD, config)
    result = compare("good", "other")
    if message is None:
        assert result[0] == 0
    else:
        assert refusal(result).startswith(message)


def test_unknown_language_warns_once(compare, tmp_path):
    find_language.cache_clear()
    config = dataclasses.replace(Config(), data=DataConfig(target="jp"))
    for name, lines in (("a", GOOD), ("b", BAD)):
        write_scored_run(tmp_path / name, lines, config)
    status, _, errors = compare(tmp_path / "a", tmp_path / "b")
    assert (status, errors.count("\n")) == (0, 1)
    assert "the language 'jp' is unknown" in errors


def test_links_to_other_files_are_refused(runs, compare, tmp_path):
    (tmp_path / "secret").write_text("".join("x\n" for _ in REFERENCES))
    (tmp_path / "bad/test.hyp.txt").unlink()
    os.symlink(tmp_path / "secret", tmp_path / "bad/test.hyp.txt")
    assert "is a link to a path outside the run directory" in refusal(compare(*runs))


def test_comparing_does_not_import_jax(runs):
    code = (
        "import sys\n"
        "from transformer_jax.__main__ import dispatch\n"
        "from sacrebleu.significance import PairedTest\n"
        "PairedTest._DEFAULT_SAMPLES = {'ar': 3, 'bs': 3}\n"
        "dispatch(['compare', 'good', 'bad'])\n"
        "sys.exit('jax' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.DEVNULL)
