"""A run directory of an earlier version still translates and trains on."""

import json
import tarfile

import pytest
from documented import ROOT

from transformer_jax import Translator, train

SOURCES = [
    "I am going to the square.",
    "The refrigerator is particularly cheap.",
    "I do not know why my uncle is interested in the exhibition.",
    "The stadium is really small.",
]
TRANSLATIONS = [
    "Ich gehe zum Platz.",
    "Der Kühlschrank ist besonders billig.",
    "Ich weiß nicht, warum mein Onkel sich für die Ausstellung interessiert.",
    "Das Stadion ist wirklich klein.",
]


@pytest.fixture
def older_run(tmp_path, monkeypatch):
    """A run of format 4, trained for 240 steps by commit a82c815, and the text that it was trained on."""
    with tarfile.open(ROOT / "tests/runs/format4.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def test_a_run_of_format_4_still_translates(older_run):
    assert json.loads((older_run / "config.json").read_text())["format"] == 4
    translations = Translator.load("run").translate(SOURCES)
    assert [translation.text for translation in translations] == TRANSLATIONS


def test_a_run_of_format_4_trains_on_as_it_did(older_run):
    results = train("recipe.py", "run", training={"steps": 260})
    lines = [json.loads(line) for line in (older_run / "metrics.jsonl").read_text().splitlines()]
    trained, validated = lines[-2:]
    assert [line["step"] for line in lines].count(240) == 2, "earlier lines are kept"
    # Commit a82c815 gave 0.84266 and 0.79978 for these steps. Dropout masks have changed since.
    assert trained["loss"] == pytest.approx(0.8455075507070504, rel=1e-4)
    assert validated["loss"] == pytest.approx(0.8004625108506944, rel=1e-4)
    assert results["scores"]["BLEU"]["value"] == pytest.approx(100)
