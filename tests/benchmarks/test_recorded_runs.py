"""Finished runs are recorded with their translations. Unfinished and damaged runs are refused."""

import gzip
import json
import re

import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from scored_run import BAD, GOOD, REFERENCES, SOURCES

from benchmarks.results import RECORDS, main
from transformer_jax.commands.recipe import load_recipe
from transformer_jax.config import save_config
from transformer_jax.errors import InputError


@pytest.fixture
def translated(finished, monkeypatch):
    """Return a function that makes a finished run with the translations of its test set."""
    monkeypatch.setattr(PairedTest, "_DEFAULT_SAMPLES", {"ar": 211, "bs": 101})

    def make(name, hypotheses, references=REFERENCES):
        workdir = finished(name)
        for kind, lines in (("src", SOURCES), ("hyp", hypotheses), ("ref", references)):
            (workdir / f"test.{kind}.txt").write_text("".join(f"{line}\n" for line in lines))
        return workdir

    return make


def test_translations_are_kept_and_tested_against_the_recipe(root, translated):
    base, other = translated("multi30k_tiny", GOOD), translated("other", BAD)
    main(["--add", str(base), str(other)], root)
    kept = root / RECORDS / "other.hyp.txt.gz"
    assert gzip.decompress(kept.read_bytes()).decode().split("\n") == [*BAD, ""]
    assert sorted(path.name for path in (root / RECORDS).iterdir()) == [
        *("multi30k_tiny.hyp.txt.gz", "multi30k_tiny.json", "other.hyp.txt.gz", "other.json")
    ]
    tested = PairedTest([("a", GOOD), ("b", BAD)], {"BLEU": BLEU()}, [REFERENCES], "bs")()[1]["BLEU"][1].p_value
    [row] = re.findall("other.json.*", (root / "docs/results/multi30k.md").read_text())[1:]
    assert f"| {tested:.4f}, 0." in row
    [row] = re.findall("multi30k_tiny.json.*", (root / "docs/results/multi30k.md").read_text())[1:]
    assert "not tested" not in row
    before = {path: path.read_bytes() for path in (root / RECORDS).iterdir()}
    main(["--add", str(base), str(other)], root)
    assert {path: path.read_bytes() for path in before} == before


def test_runs_without_comparable_translations_are_not_tested(root, translated, finished, caplog):
    main(["--add", str(finished("older")), str(translated("first", BAD))], root)
    assert "runs/older has no test.hyp.txt, so it is not tested. Run its train command again." in caplog.text
    base = translated("multi30k_tiny", GOOD)
    main(["--add", str(base), str(translated("other", BAD, BAD)), str(translated("tested", BAD))], root)
    page = root / "docs/results/multi30k.md"
    assert page.read_text().count("| not tested |") == 3
    (base / "test.hyp.txt").write_text("".join(f"{line}\n" for line in BAD))
    main(["--add", str(base)], root)
    assert page.read_text().count("| not tested |") == 4


def test_damaged_translations_are_refused_and_not_recorded(root, translated):
    workdir = translated("multi30k_tiny", GOOD[:-1])
    with pytest.raises(InputError, match="multi30k_tiny is damaged: its files must have equal numbers of lines"):
        main(["--add", str(workdir)], root)
    assert not list(root.glob(f"{RECORDS}/*"))


def test_unfinished_run_is_refused(root, finished):
    workdir = finished("multi30k_tiny")
    save_config(load_recipe(root / "configs/phrasebook.py"), workdir / "config.json")
    with pytest.raises(
        InputError, match=r"does not match config\.json in the same directory\. Finish the run: python "
    ):
        main(["--add", str(workdir)], root)
    (workdir / "results.json").unlink()
    with pytest.raises(
        InputError, match=r"multi30k_tiny has no results\.json\. Finish the run: python train\.py .*multi30k_tiny$"
    ):
        main(["--add", str(workdir)], root)
    assert not (root / RECORDS).exists()


def without(key):
    return lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != key})


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-1], lambda text: "[]", without("config"), without("scores"), without("recipe")]
)
def test_damaged_results_are_refused_in_one_line(damage, root, finished):
    path = finished("multi30k_tiny") / "results.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=r"^.*results\.json is damaged or has an old format .* train again\.$"):
        main(["--add", str(path.parent)], root)


def test_run_without_a_recipe_is_refused(root, finished):
    path = finished("multi30k_tiny") / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": None}))
    with pytest.raises(
        InputError, match=r"^.*results\.json does not name a recipe\. Train again: python train\.py --config RECIPE$"
    ):
        main(["--add", str(path.parent)], root)


def test_missing_recipe_is_named(root, finished):
    workdir = finished("mine", recipe="multi30k_tiny")
    (root / "configs/multi30k_tiny.py").unlink()
    with pytest.raises(InputError, match=r"needs configs/multi30k_tiny\.py, which is missing\. Restore"):
        main(["--add", str(workdir)], root)
