"""The tables of results say what recorded runs say, and nothing else."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from benchmarks.results import BEGIN, END, ROOT, main
from transformer_jax.commands.recipe import load_recipe
from transformer_jax.config import save_config
from transformer_jax.errors import InputError, RunError

RECORDED = "benchmarks/results/runs"


def test_the_tables_of_this_checkout_are_those_of_its_recorded_runs():
    main(["--check"])


@pytest.fixture
def root(tmp_path):
    """A checkout with two recipes, and documents without a table yet."""
    (tmp_path / "configs").mkdir()
    for name in ("phrasebook", "multi30k_tiny"):
        shutil.copy(ROOT / "configs" / f"{name}.py", tmp_path / "configs")
    (tmp_path / "docs/results").mkdir(parents=True)
    for name in ("README.md", "docs/results/multi30k.md"):
        (tmp_path / name).write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    return tmp_path


@pytest.fixture
def finished(root):
    """Makes the folder of a finished run, under runs/."""

    def make(name, recipe="multi30k_tiny", steps=None, seed=0, **values):
        config = load_recipe(root / "configs" / f"{recipe}.py")
        training = dataclasses.replace(config.training, seed=seed, steps=steps or config.training.steps)
        config = dataclasses.replace(config, training=training)
        folder = root / "runs" / name
        folder.mkdir(parents=True)
        save_config(config, folder / "config.json")
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
        (folder / "results.json").write_text(json.dumps(results | values))
        return folder

    return make


def test_a_recorded_run_is_shown_with_its_figures_and_its_command(root, finished):
    main(["--add", str(finished("multi30k_tiny"))], root)
    readme = (root / "README.md").read_text()
    assert readme.startswith(f"before\n{BEGIN}\n| run | test set |")
    assert readme.endswith(f"{END}\nafter\n")
    assert (
        f"| [multi30k_tiny]({RECORDED}/multi30k_tiny.json) "
        "| test_2016_flickr.lc.norm.tok, en-de, 1,009 sentences, lower-cased "
        "| 2.6 M | 37.13 | 60.00 | 37.50 | 13.2 min | 2 cores, A chip |\n"
    ) in readme
    assert "```bash\npython train.py --config configs/multi30k_tiny.py\n```\n" in readme
    assert "- BLEU-tokenized `case:lc|tok:none`: multi30k_tiny\n" in readme
    document = (root / "docs/results/multi30k.md").read_text()
    assert f"[multi30k_tiny](../../{RECORDED}/multi30k_tiny.json)" in document
    assert "| 28,999 | 13, 2 with the same translation | " in document
    assert "| 6,700 | 0 | 5, length penalty 0.6 | Python 3.11.7, jax 0.10.2 |\n" in document


def test_what_a_run_changed_in_its_recipe_is_in_its_command(root, finished):
    main(["--add", str(finished("longer", steps=1301))], root)
    command = "python train.py --config configs/multi30k_tiny.py --workdir runs/longer --training.steps 1301"
    assert f"\n{command}\n" in (root / "docs/results/multi30k.md").read_text()


def test_the_readme_shows_recipes_as_they_are(root, finished):
    main(["--add", str(finished("multi30k_tiny")), str(finished("longer", steps=1301))], root)
    assert "longer" in (root / "docs/results/multi30k.md").read_text()
    readme = (root / "README.md").read_text()
    assert "[multi30k_tiny]" in readme
    assert "longer" not in readme


def test_the_readme_shows_a_recipe_on_other_text(root, finished):
    folder = finished("french")
    for path in (folder / "config.json", folder / "results.json"):
        values = json.loads(path.read_text())
        values.get("config", values)["data"]["target"] = "fr"
        values.get("config", values)["data"]["test"] = "data/everyday/test.tsv"
        path.write_text(json.dumps(values))
    main(["--add", str(folder)], root)
    readme = (root / "README.md").read_text()
    assert "--workdir runs/french --data.test data/everyday/test.tsv --data.target fr\n" in readme
    assert "| everyday/test.tsv, en-fr, 1,009 sentences, lower-cased |" in readme


def test_seeds_of_a_recipe_are_summed_up(root, finished):
    scores = {
        seed: {"BLEU": {"value": bleu, "signature": "tok:13a"}} for seed, bleu in enumerate((37.126, 38.126, 38.226))
    }
    for seed in scores:
        finished(f"seed{seed}", seed=seed, scores=scores[seed])
    finished("longer", steps=1301, scores={"BLEU": {"value": 99.0, "signature": "tok:13a"}})
    main(["--add", str(root / "runs/seed1"), str(root / "runs/longer")], root)
    assert "seeds" not in (root / "README.md").read_text()
    main(["--add", *(str(root / f"runs/seed{seed}") for seed in scores)], root)
    readme = (root / "README.md").read_text()
    assert "\n- multi30k_tiny, 3 seeds, 2 cores, A chip: BLEU 37.83 (37.13 to 38.23)\n" in readme


@pytest.mark.parametrize("option", ["save_every", "log_every"])
def test_what_changes_no_result_makes_no_other_recipe(option, root, finished):
    for seed in (3, 5):
        folder = finished(f"seed{seed}", seed=seed)
        for path in (folder / "config.json", folder / "results.json"):
            values = json.loads(path.read_text())
            values.get("config", values)["training"][option] = seed
            path.write_text(json.dumps(values))
        main(["--add", str(folder)], root)
    assert "\n- multi30k_tiny, 2 seeds, " in (root / "docs/results/multi30k.md").read_text()


def test_a_seed_that_is_recorded_twice_counts_once(root, finished):
    scores = {"BLEU": {"value": 39.126, "signature": "tok:13a"}}
    main(["--add", *(str(finished(name, scores=scores)) for name in ("multi30k_tiny", "same"))], root)
    main(["--add", str(finished("seed3", seed=3, scores={"BLEU": {"value": 40.126, "signature": "tok:13a"}}))], root)
    assert ", 2 seeds, 2 cores, A chip: BLEU 39.63 (39.13 to 40.13)\n" in (root / "README.md").read_text()


def test_seeds_of_other_settings_are_summed_up_apart(root, finished):
    folders = [finished(f"{steps}.{seed}", steps=steps, seed=seed) for steps in (1301, 1303) for seed in (0, 1)]
    main(["--add", *map(str, folders)], root)
    document = (root / "docs/results/multi30k.md").read_text()
    for steps in (1301, 1303):
        assert f"\n- multi30k_tiny --training.steps {steps}, 2 seeds, 2 cores, A chip: BLEU 37.13" in document
    assert "seeds" not in (root / "README.md").read_text()


def test_another_machine_is_no_other_seed(root, finished):
    card = {"processor": "A chip", "cores": 2, "devices": ["Fast card"]}
    folders = [finished("cpu"), finished("again"), finished("card", seed=1, hardware=card)]
    main(["--add", *map(str, folders)], root)
    assert "seeds" not in (root / "README.md").read_text()


def test_a_setting_that_is_newer_than_a_run_had_its_default_then(root, finished):
    folder = finished("multi30k_tiny")
    for path in (folder / "config.json", folder / "results.json"):
        values = json.loads(path.read_text())
        del values.get("config", values)["training"]["r_drop"]
        path.write_text(json.dumps(values))
    main(["--add", str(folder)], root)
    command = "python train.py --config configs/multi30k_tiny.py --training.r-drop 0.0"
    assert f"\n{command}\n" in (root / "docs/results/multi30k.md").read_text()
    values["config"]["training"]["gone"] = 3
    (root / RECORDED / "multi30k_tiny.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"is not the results\.json of a run of this version \(KeyError\('gone'\)\)"):
        main([], root)


def test_validations_are_listed(root, finished):
    validations = [{"step": 3, "loss": 2.0, "bleu": 31.26}, {"step": 6, "loss": 1.0, "bleu": 40.01}]
    main(["--add", str(finished("multi30k_tiny", validations=validations))], root)
    assert "| 31.3, 40.0 |" in (root / "docs/results/multi30k.md").read_text()


def test_a_run_is_shown_where_its_recipe_belongs(root, finished):
    main(["--add", str(finished("phrasebook", "phrasebook")), str(finished("multi30k_tiny"))], root)
    assert (root / "README.md").read_text().count("| [") == 2
    document = (root / "docs/results/multi30k.md").read_text()
    assert document.count("| [") == 2  # Scores and details of one run.
    assert "phrasebook" not in document


def test_without_a_record_there_is_no_row(root, finished):
    main(["--add", str(finished("multi30k_tiny"))], root)
    (root / RECORDED / "multi30k_tiny.json").unlink()
    main([], root)
    assert (root / "README.md").read_text() == f"before\n{BEGIN}\nNo run is recorded yet.\n{END}\nafter\n"


def test_a_figure_typed_by_hand_fails_the_check_and_nothing_is_written(root, finished):
    main(["--add", str(finished("multi30k_tiny"))], root)
    main(["--check"], root)
    readme = root / "README.md"
    changed = readme.read_text().replace("37.13", "41.03")
    readme.write_text(changed)
    with pytest.raises(RunError, match=r"^README\.md: the tables are not .* Run: python -m benchmarks\.results$"):
        main(["--check"], root)
    assert readme.read_text() == changed
    main([], root)
    assert "37.13" in readme.read_text()


def test_what_a_run_could_not_know_is_not_made_up(root, finished):
    main(["--add", str(finished("multi30k_tiny", overlap=None, target_tokens_per_second=None))], root)
    document = (root / "docs/results/multi30k.md").read_text()
    assert "| test_2016_flickr.lc.norm.tok, en-de, lower-cased |" in document
    assert "| 28,999 | not known | 8,000 | 1,201 |  |  | 0 |" in document


def test_devices_that_are_no_cpus_are_named(root, finished):
    hardware = {"processor": "A chip", "cores": 16, "devices": ["Fast card", "Fast card"]}
    main(["--add", str(finished("multi30k_tiny", hardware=hardware, wall_seconds=7200.0))], root)
    assert "| 2.0 h | 2 x Fast card |" in (root / "README.md").read_text()


def test_an_unfinished_run_is_refused(root, finished):
    folder = finished("multi30k_tiny")
    save_config(load_recipe(root / "configs/phrasebook.py"), folder / "config.json")
    with pytest.raises(InputError, match=r"is older than the run, which has gone on\. Let train\.py finish in "):
        main(["--add", str(folder)], root)
    (folder / "results.json").unlink()
    with pytest.raises(InputError, match=r"multi30k_tiny holds no results\.json, .*Let train\.py finish there"):
        main(["--add", str(folder)], root)
    assert not (root / RECORDED).exists()


def without(key):
    return lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != key})


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-1], lambda text: "[]", without("config"), without("scores"), without("recipe")]
)
def test_results_that_lack_something_are_refused_in_one_line(damage, root, finished):
    path = finished("multi30k_tiny") / "results.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=r"^.*results\.json is not the results\.json of a run .* Train again.*\.$"):
        main(["--add", str(path.parent)], root)


def test_a_run_without_a_recipe_is_refused(root, finished):
    path = finished("multi30k_tiny") / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": None}))
    with pytest.raises(InputError, match=r"^.*results\.json is of no recipe, .* Train with train\.py\.$"):
        main(["--add", str(path.parent)], root)


def test_a_recipe_that_is_not_there_is_named(root, finished):
    folder = finished("mine", recipe="multi30k_tiny")
    (root / "configs/multi30k_tiny.py").unlink()
    with pytest.raises(InputError, match=r"of the recipe multi30k_tiny, which configs/ lacks\. Put multi30k_tiny\.py"):
        main(["--add", str(folder)], root)


@pytest.mark.parametrize("markers", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{BEGIN}\n{END}\n"])
def test_missing_markers_are_named(markers, root):
    Path(root / "README.md").write_text(f"before\n{markers}after\n")
    with pytest.raises(InputError, match=r"README\.md must hold the line <!-- results: .* Put them back\.$"):
        main([], root)


def test_adding_is_no_check(root):
    with pytest.raises(InputError, match="--check writes nothing"):
        main(["--check", "--add", "runs/x"], root)
