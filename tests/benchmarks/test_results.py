"""Result tables are built from recorded runs alone."""

import dataclasses
import gzip
import json
import re
import shutil
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from scored_run import BAD, GOOD, REFERENCES, SOURCES

from benchmarks.results import BEGIN_MARKER, END_MARKER, ROOT, main
from transformer_jax.commands.recipe import load_recipe
from transformer_jax.config import save_config
from transformer_jax.errors import InputError, RunError

RECORDS = "benchmarks/results/runs"


def test_tables_of_this_checkout_match_its_records():
    main(["--check"])


@pytest.fixture
def root(tmp_path):
    """A checkout with two recipes and pages with empty tables."""
    (tmp_path / "configs").mkdir()
    for name in ("phrasebook", "multi30k_tiny"):
        shutil.copy(ROOT / "configs" / f"{name}.py", tmp_path / "configs")
    (tmp_path / "docs/results").mkdir(parents=True)
    for name in ("README.md", "docs/results/README.md", "docs/results/multi30k.md"):
        (tmp_path / name).write_text(f"before\n{BEGIN_MARKER}\n{END_MARKER}\nafter\n")
    return tmp_path


@pytest.fixture
def finished(root):
    """Return a function that makes the directory of a finished run in runs/."""

    def make(name, recipe="multi30k_tiny", steps=None, seed=0, **values):
        config = load_recipe(root / "configs" / f"{recipe}.py")
        training = dataclasses.replace(config.training, seed=seed, steps=steps or config.training.steps)
        config = dataclasses.replace(config, training=training)
        workdir = root / "runs" / name
        workdir.mkdir(parents=True)
        save_config(config, workdir / "config.json")
        results = {
            "recipe": recipe,
            "config": dataclasses.asdict(config),
            "scores": {
                "BLEU": {"value": 37.126, "signature": "case:lc|tok:13a"},
                "chrF": {"value": 59.999, "signature": "nc:6"},
                "BLEU-tokenized": {"value": 37.5, "signature": "case:lc|tok:none"},
            },
            "overlap": {"sentences": 1009, "sources": 13, "pairs": 2},
            "training_pairs": 28_999,
            "best_step": 1201,
            "parameters": 2_640_000,
            "wall_seconds": 791.0,
            "target_tokens_per_second": 6700.4,
            "hardware": {"processor": "A chip", "cores": 2, "devices": ["cpu"]},
            "versions": {"python": "3.11.7", "jax": "0.10.2"},
        }
        (workdir / "results.json").write_text(json.dumps(results | values))
        return workdir

    return make


def test_row_shows_scores_and_command_of_a_run(root, finished):
    main(["--add", str(finished("multi30k_tiny"))], root)
    readme = (root / "README.md").read_text()
    assert readme.startswith(f"before\n{BEGIN_MARKER}\n| run | test set |")
    assert readme.endswith(f"{END_MARKER}\nafter\n")
    test_set = "test_2016_flickr.lc.norm.tok, en-de, 1,009 sentences, lower-cased"
    link = f"[multi30k_tiny]({RECORDS}/multi30k_tiny.json)"
    assert f"| {link} | {test_set} | 37.13 | 13.2 min | 2 cores, A chip |\n" in readme
    overview = (root / "docs/results/README.md").read_text()
    link = f"[multi30k_tiny](../../{RECORDS}/multi30k_tiny.json)"
    values = "2.6 M | 37.13 | 60.00 | 37.50 | 13.2 min | 2 cores, A chip"
    assert f"| {link} | {test_set} | {values} |\n" in overview
    assert "```bash\npython train.py --config configs/multi30k_tiny.py\n```\n" in overview
    assert "- BLEU-tokenized `case:lc|tok:none`: multi30k_tiny\n" in overview
    document = (root / "docs/results/multi30k.md").read_text()
    assert f"[multi30k_tiny](../../{RECORDS}/multi30k_tiny.json)" in document
    assert "| 28,999 | 13 (2 with the same translation) | " in document
    assert "| 6,700 | 0 | 5, length penalty 0.6 | Python 3.11.7, jax 0.10.2 |\n" in document


def test_command_has_the_options_that_a_run_changed(root, finished):
    main(["--add", str(finished("longer", steps=1301))], root)
    command = "python train.py --config configs/multi30k_tiny.py --workdir runs/longer --training.steps 1301"
    assert f"\n{command}\n" in (root / "docs/results/multi30k.md").read_text()


def test_readme_shows_only_unchanged_recipes(root, finished):
    main(["--add", str(finished("multi30k_tiny")), str(finished("longer", steps=1301))], root)
    assert "longer" in (root / "docs/results/multi30k.md").read_text()
    readme = (root / "README.md").read_text()
    assert "[multi30k_tiny]" in readme
    assert "longer" not in readme


def test_readme_shows_a_recipe_on_other_text(root, finished):
    workdir = finished("french")
    for path in (workdir / "config.json", workdir / "results.json"):
        values = json.loads(path.read_text())
        values.get("config", values)["data"]["target"] = "fr"
        values.get("config", values)["data"]["test"] = "data/everyday/test.tsv"
        path.write_text(json.dumps(values))
    main(["--add", str(workdir)], root)
    overview = (root / "docs/results/README.md").read_text()
    assert "--workdir runs/french --data.test data/everyday/test.tsv --data.target fr\n" in overview
    for page in (overview, (root / "README.md").read_text()):
        assert "| everyday/test.tsv, en-fr, 1,009 sentences, lower-cased |" in page


def test_seeds_of_a_recipe_are_summarized(root, finished):
    scores = {
        seed: {"BLEU": {"value": bleu, "signature": "tok:13a"}} for seed, bleu in enumerate((37.126, 38.126, 38.226))
    }
    for seed in scores:
        finished(f"seed{seed}", seed=seed, scores=scores[seed])
    finished("longer", steps=1301, scores={"BLEU": {"value": 99.0, "signature": "tok:13a"}})
    main(["--add", str(root / "runs/seed1"), str(root / "runs/longer")], root)
    assert "seeds" not in (root / "docs/results/README.md").read_text()
    main(["--add", *(str(root / f"runs/seed{seed}") for seed in scores)], root)
    overview = (root / "docs/results/README.md").read_text()
    assert "\n- multi30k_tiny, 3 seeds, 2 cores, A chip: BLEU 37.83 (37.13 to 38.23)\n" in overview


@pytest.mark.parametrize("option", ["save_every", "log_every"])
def test_neutral_options_do_not_separate_seeds(option, root, finished):
    for seed in (3, 5):
        workdir = finished(f"seed{seed}", seed=seed)
        for path in (workdir / "config.json", workdir / "results.json"):
            values = json.loads(path.read_text())
            values.get("config", values)["training"][option] = seed
            path.write_text(json.dumps(values))
        main(["--add", str(workdir)], root)
    assert "\n- multi30k_tiny, 2 seeds, " in (root / "docs/results/multi30k.md").read_text()


def test_seed_recorded_twice_counts_once(root, finished):
    scores = {"BLEU": {"value": 39.126, "signature": "tok:13a"}}
    main(["--add", *(str(finished(name, scores=scores)) for name in ("multi30k_tiny", "same"))], root)
    main(["--add", str(finished("seed3", seed=3, scores={"BLEU": {"value": 40.126, "signature": "tok:13a"}}))], root)
    assert ", 2 seeds, 2 cores, A chip: BLEU 39.63 (39.13 to 40.13)\n" in (root / "docs/results/README.md").read_text()


def test_seeds_are_summarized_per_config(root, finished):
    workdirs = [finished(f"{steps}.{seed}", steps=steps, seed=seed) for steps in (1301, 1303) for seed in (0, 1)]
    main(["--add", *map(str, workdirs)], root)
    document = (root / "docs/results/multi30k.md").read_text()
    for steps in (1301, 1303):
        assert f"\n- multi30k_tiny --training.steps {steps}, 2 seeds, 2 cores, A chip: BLEU 37.13" in document
    assert "seeds" not in (root / "README.md").read_text()


def test_seeds_are_summarized_per_machine(root, finished):
    card = {"processor": "A chip", "cores": 2, "devices": ["Fast card"]}
    workdirs = [finished("cpu"), finished("again"), finished("card", seed=1, hardware=card)]
    main(["--add", *map(str, workdirs)], root)
    assert "seeds" not in (root / "README.md").read_text()


def test_field_newer_than_a_run_counts_with_its_default(root, finished):
    workdir = finished("multi30k_tiny")
    for path in (workdir / "config.json", workdir / "results.json"):
        values = json.loads(path.read_text())
        del values.get("config", values)["training"]["r_drop"]
        path.write_text(json.dumps(values))
    main(["--add", str(workdir)], root)
    command = "python train.py --config configs/multi30k_tiny.py --training.r-drop 0.0"
    assert f"\n{command}\n" in (root / "docs/results/multi30k.md").read_text()
    values["config"]["training"]["gone"] = 3
    (root / RECORDS / "multi30k_tiny.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"is damaged or has an old format \(KeyError\('gone'\)\)"):
        main([], root)


def test_run_older_than_the_normalization_of_its_recipe_is_marked(root, finished):
    workdir = finished("phrasebook", "phrasebook")
    main(["--add", str(workdir)], root)
    assert "before normalization" not in (root / "README.md").read_text()
    for path in (workdir / "config.json", workdir / "results.json"):
        values = json.loads(path.read_text())
        del values.get("config", values)["tokenizer"]["normalization"]
        path.write_text(json.dumps(values))
    main(["--add", str(workdir), str(finished("multi30k_tiny"))], root)
    overview = (root / "docs/results/README.md").read_text()
    assert "/phrasebook.json), before normalization | " in overview
    assert "/multi30k_tiny.json) | " in overview
    assert "\npython train.py --tokenizer.normalization none\n" in overview
    assert "\n- before normalization: the recipe did not normalize sources yet\n" in overview
    assert "/phrasebook.json), before normalization | " in (root / "README.md").read_text()


def test_run_without_normalization_is_not_an_older_run(root, finished):
    workdir = finished("mine", "phrasebook")
    for path in (workdir / "config.json", workdir / "results.json"):
        values = json.loads(path.read_text())
        values.get("config", values)["tokenizer"]["normalization"] = "none"
        path.write_text(json.dumps(values))
    main(["--add", str(workdir)], root)
    assert "mine" not in (root / "README.md").read_text()


def test_validations_are_listed(root, finished):
    validations = [{"step": 3, "loss": 2.0, "bleu": 31.26}, {"step": 6, "loss": 1.0, "bleu": 40.01}]
    main(["--add", str(finished("multi30k_tiny", validations=validations))], root)
    assert "| 31.3, 40.0 |" in (root / "docs/results/multi30k.md").read_text()


def test_run_is_shown_on_the_page_of_its_recipe(root, finished):
    main(["--add", str(finished("phrasebook", "phrasebook")), str(finished("multi30k_tiny"))], root)
    assert (root / "README.md").read_text().count("| [") == 2
    document = (root / "docs/results/multi30k.md").read_text()
    assert document.count("| [") == 2  # One row with scores and one with details.
    assert "phrasebook" not in document


def test_run_is_shown_on_the_page_with_the_longest_name(root, finished):
    page = root / "docs/results/multi30k_tiny.md"
    page.write_text(f"{BEGIN_MARKER}\n{END_MARKER}\n")
    main(["--add", str(finished("multi30k_tiny"))], root)
    assert "[multi30k_tiny]" in page.read_text()
    assert "No run is recorded yet." in (root / "docs/results/multi30k.md").read_text()


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


def test_deleted_record_has_no_row(root, finished):
    main(["--add", str(finished("multi30k_tiny"))], root)
    (root / RECORDS / "multi30k_tiny.json").unlink()
    main([], root)
    assert (root / "README.md").read_text() == f"before\n{BEGIN_MARKER}\nNo run is recorded yet.\n{END_MARKER}\nafter\n"


def test_check_fails_for_an_edited_table_and_writes_nothing(root, finished):
    main(["--add", str(finished("multi30k_tiny"))], root)
    main(["--check"], root)
    readme = root / "README.md"
    changed = readme.read_text().replace("37.13", "41.03")
    readme.write_text(changed)
    with pytest.raises(
        RunError, match=r"^README\.md: the tables are out of date\. Run: python -m benchmarks\.results$"
    ):
        main(["--check"], root)
    assert readme.read_text() == changed
    main([], root)
    assert "37.13" in readme.read_text()


def test_unknown_values_are_shown_as_unknown(root, finished):
    main(["--add", str(finished("multi30k_tiny", overlap=None, target_tokens_per_second=None))], root)
    document = (root / "docs/results/multi30k.md").read_text()
    assert "| test_2016_flickr.lc.norm.tok, en-de, lower-cased |" in document
    assert "| 28,999 | unknown | 8,000 | 1,201 |  |  |  | 0 |" in document


def test_accelerators_are_named(root, finished):
    hardware = {"processor": "A chip", "cores": 16, "devices": ["Fast card", "Fast card"]}
    main(["--add", str(finished("multi30k_tiny", hardware=hardware, wall_seconds=7200.0))], root)
    assert "| 2.0 h | 2 x Fast card |" in (root / "README.md").read_text()


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


@pytest.mark.parametrize(
    "markers",
    ["", f"{BEGIN_MARKER}\n", f"{END_MARKER}\n{BEGIN_MARKER}\n", f"{BEGIN_MARKER}\n{BEGIN_MARKER}\n{END_MARKER}\n"],
)
def test_missing_markers_are_named(markers, root):
    Path(root / "README.md").write_text(f"before\n{markers}after\n")
    with pytest.raises(InputError, match=r"README\.md must contain <!-- results: .* Restore both lines\.$"):
        main([], root)


def test_check_and_add_exclude_each_other(root):
    with pytest.raises(InputError, match="--check and --add are mutually exclusive"):
        main(["--check", "--add", "runs/x"], root)
