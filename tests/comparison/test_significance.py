"""Paired tests have the p-values of sacreBLEU, and no p-value says more than the data."""

import os

import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest
from scored_run import BAD, GOOD, REFERENCES

from transformer_jax.comparison.significance import compare_systems
from transformer_jax.evaluation import make_metrics

METRICS = make_metrics(REFERENCES, "de")


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(PairedTest, "_DEFAULT_SAMPLES", {"ar": 211, "bs": 101})


@pytest.mark.parametrize("environment", [None, "none", "7", "not a number", ""])
def test_p_values_are_those_of_sacrebleu_with_its_default_seed(environment, monkeypatch):
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    systems = [GOOD, BAD, REFERENCES]
    named = list(zip("abc", systems, strict=True))
    metrics = {"BLEU": BLEU(), "chrF": CHRF()}
    expected = [PairedTest(named, metrics, [REFERENCES], kind)()[1] for kind in ("bs", "ar")]
    if environment is not None:
        monkeypatch.setenv("SACREBLEU_SEED", environment)
    compared = compare_systems(METRICS, REFERENCES, systems)
    assert os.environ.get("SACREBLEU_SEED") == environment
    for name, theirs in (("BLEU", "BLEU"), ("chrF", "chrF2")):
        rows = [(score.value, score.bootstrap, score.randomization) for score in compared[name]]
        assert rows == [
            (a.score, a.p_value, b.p_value) for a, b in zip(*(test[theirs] for test in expected), strict=True)
        ]


def test_equal_translations_do_not_differ_significantly():
    # sacreBLEU itself gives 1 / 102 and 1 / 212.
    _, same = compare_systems(METRICS, REFERENCES, [GOOD, GOOD])["BLEU"]
    assert (same.bootstrap, same.randomization, same.differing_lines) == (1.0, 1.0, 0)


def test_few_differing_lines_bound_the_p_value():
    # With two different lines, half of all swaps give the observed difference or its negative.
    one_better = [*GOOD[:2], "Sie kauft Brot.", "Es schneit.", *GOOD[4:]]
    _, other = compare_systems(METRICS, REFERENCES, [GOOD, one_better])["chrF"]
    assert other.differing_lines == 2
    assert other.randomization < 0.5
    assert other.least_p_value == 0.5
    _, bad = compare_systems(METRICS, REFERENCES, [GOOD, BAD])["chrF"]
    assert bad.least_p_value == 2 / 2**bad.differing_lines < bad.randomization


def test_tokenized_text_is_tested_as_it_is_scored():
    references = [line.lower().replace(".", " .").replace("?", " ?") for line in REFERENCES]
    metrics = make_metrics(references, "de")
    hypotheses = [line.replace("e", "a") for line in references]
    compared = compare_systems(metrics, references, [references, hypotheses])
    assert list(compared) == ["BLEU", "chrF", "BLEU-tokenized"]
    assert "case:lc|eff:no|tok:none" in compared["BLEU-tokenized"][1].signature
    assert [round(scores[0].value) for scores in compared.values()] == [100, 100, 100]
