"""Variants of a recipe are trained, recorded once, and make the table."""

import json
import os
import shutil

import pytest

from benchmarks import ablation, results
from transformer_jax.errors import InputError

RECIPE = """
from transformer_jax.config import *
config = Config(
    model=ModelConfig(d_model=16, d_ff=19, heads=2, encoder_layers=1, decoder_layers=1, norm="pre"),
    data=DataConfig(*[f"{name}.{{lang}}" for name in ("train", "valid", "test")], max_length=11, batch_tokens=107),
    tokenizer=TokenizerConfig(kind="word", size=23),
)
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with a recipe of tokenised text, and a page for the table."""
    for folder in ("configs", "docs/results"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ablation.ROOT / "train.py", tmp_path)
    (tmp_path / "configs/multi30k_fast.py").write_text(RECIPE)
    for name in ("train", "valid", "test"):
        for language in ("en", "de"):
            (tmp_path / f"{name}.{language}").write_text(f"a {name} b .\nb a .\n" * 13)
    empty = f"{results.BEGIN}\n{results.END}\n"
    (tmp_path / "README.md").write_text(empty)
    (tmp_path / "docs/results/multi30k.md").write_text(f"{empty}before\n{ablation.BEGIN}\n{ablation.END}\nafter\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ablation.ROOT), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def test_variants_are_trained_on_nothing_but_training_and_validation_text_and_recorded(root):
    (root / "test.en").unlink()
    ablation.main(["--only", "recipe", "post-norm", "--seeds", "3", "--steps", "2"], root)
    records = {path.name: json.loads(path.read_text()) for path in (root / ablation.RECORDED / "cpu").iterdir()}
    assert records.keys() == {"recipe.3.json", "post-norm.3.json"}
    assert [record["config"]["model"]["norm"] for _, record in sorted(records.items())] == ["post", "pre"]
    assert {record["test"] for record in records.values()} == {"valid.{lang}"}
    assert {record["seed"] for record in records.values()} == {3}

    before = (root / ablation.RECORDED / "cpu/recipe.3.json").stat()
    ablation.main(["--only", "recipe", "--seeds", "3", "--steps", "2"], root)
    assert (root / ablation.RECORDED / "cpu/recipe.3.json").stat() == before
    with pytest.raises(InputError, match=r"recipe\.3\.json has the budget --training\.steps 2\. Delete it, or give "):
        ablation.main(["--only", "recipe", "--seeds", "3", "--steps", "3"], root)

    results.main([], root)
    assert "| recipe |" in (root / "docs/results/multi30k.md").read_text()


def test_the_table_of_a_machine_has_the_mean_of_the_seeds_and_the_best_variant_first(root):
    for machine, variant, options, seeds in (
        ("cpu", "recipe", "", (31.0, 32.0)),
        ("cpu", "better", "--model.gone 1", (34.0, 33.0)),
        ("gpu", "recipe", "", (29.0,)),
    ):
        (root / ablation.RECORDED / machine).mkdir(parents=True, exist_ok=True)
        for seed, value in enumerate(seeds):
            record = {
                "variant": variant,
                "options": options,
                "budget": "--steps 2",
                "scores": {"BLEU-tokenized": {"value": value, "signature": ""}},
                "wall_seconds": 660,
                "hardware": {"processor": "A chip", "cores": 2, "devices": [machine]},
            }
            (root / ablation.RECORDED / machine / f"{variant}.{seed}.json").write_text(json.dumps(record))
    results.main([], root)
    page = (root / "docs/results/multi30k.md").read_text()
    assert page.endswith(
        f"before\n{ablation.BEGIN}\n"
        "| variant | options | each seed | mean | above the recipe | wall time |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| better | `--model.gone 1` | 34.00, 33.00 | 33.50 | +2.00 | 11.0 min |\n"
        "| recipe |  | 31.00, 32.00 | 31.50 |  | 11.0 min |\n"
        "\nBudget: `--steps 2`. Hardware: 2 cores, A chip, cpu.\n\n"
        "| variant | options | each seed | mean | above the recipe | wall time |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| recipe |  | 29.00 | 29.00 |  | 11.0 min |\n"
        "\nBudget: `--steps 2`. Hardware: 2 cores, A chip, gpu.\n"
        f"{ablation.END}\nafter\n"
    )


def test_an_unknown_variant_is_refused(root):
    with pytest.raises(InputError, match=r"there is no variant 'post'\. Choose from: recipe, post-norm, "):
        ablation.main(["--only", "post"], root)
