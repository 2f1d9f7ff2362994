"""Result tables are built from recorded runs alone."""

import json
from pathlib import Path

import pytest

from benchmarks.results import BEGIN_MARKER, END_MARKER, RECORDS, main
from transformer_jax.errors import InputError, RunError


def test_tables_of_this_checkout_match_its_records():
    main(["--check"])


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
