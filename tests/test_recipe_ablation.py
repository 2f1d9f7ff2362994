"""Variants of a recipe are trained, recorded once, and make the table."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

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


def test_variants_are_trained_on_nothing_but_training_and_validation_text_and_recorded(root, monkeypatch):
    monkeypatch.setattr(ablation, "STEPS", 2)
    (root / "test.en").unlink()
    ablation.main(["--only", "recipe", "post-norm", "--seeds", "3"], root)
    records = {path.name: json.loads(path.read_text()) for path in (root / ablation.RECORDED / "cpu").iterdir()}
    assert records.keys() == {"recipe.3.json", "post-norm.3.json"}
    assert [record["config"]["model"]["norm"] for _, record in sorted(records.items())] == ["post", "pre"]
    assert {record["test"] for record in records.values()} == {"valid.{lang}"}
    assert {record["seed"] for record in records.values()} == {3}

    before = (root / ablation.RECORDED / "cpu/recipe.3.json").stat()
    ablation.main(["--only", "recipe", "--seeds", "3"], root)
    assert (root / ablation.RECORDED / "cpu/recipe.3.json").stat() == before
    (root / ablation.RECIPE).write_text(RECIPE.replace("heads=2", "heads=4"))
    with pytest.raises(
        InputError, match=r"recipe\.3\.json is of other settings: model\.heads\. Delete it and .*/cpu/rec"
    ):
        ablation.main(["--only", "recipe", "--seeds", "3"], root)

    results.main([], root)
    assert "| recipe |" in (root / "docs/results/multi30k.md").read_text()


def record(root, machine, variant, seed, value, **changes):
    """Write a record."""
    path = root / ablation.RECORDED / machine / f"{variant}.{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "variant": variant,
        "options": ablation.VARIANTS.get(variant, "--model.gone 1"),
        "budget": "--steps 2",
        "seed": seed,
        "scores": {"BLEU-tokenized": {"value": value, "signature": ""}},
        "wall_seconds": 660,
        "hardware": {"processor": "A chip", "cores": 2, "devices": [machine]},
    }
    path.write_text(json.dumps(found | changes))


def test_the_table_has_the_best_variant_first_and_compares_the_same_seeds_of_the_same_machine(root):
    for seed, value in ((0, 31.0), (2, 32.0), (10, 39.0)):
        record(root, "cpu", "recipe", seed, value)
    for seed, value in ((2, 35.0), (10, 43.0)):
        record(root, "cpu", "post-norm", seed, value)
    record(root, "gpu", "recipe", 0, 50.0)
    record(root, "gpu", "gone", 0, 49.0)
    record(root, "gpu", "post-norm", 1, 90.0)
    record(root, "gpu", "dropout 0.3", 1, 99.0)
    results.main([], root)
    page = (root / "docs/results/multi30k.md").read_text()
    assert page.endswith(
        f"before\n{ablation.BEGIN}\n"
        "| variant | options | cpu, seed 0 | cpu, seed 2 | cpu, seed 10 | gpu, seed 0 | gpu, seed 1 "
        "| above the recipe |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| post-norm | `--model.norm post` |  | 35.00 | 43.00 |  | 90.00 | +3.50 |\n"
        "| recipe |  | 31.00 | 32.00 | 39.00 | 50.00 |  |  |\n"
        "| gone | an option that is gone |  |  |  | 49.00 |  | -1.00 |\n"
        "| dropout 0.3 | `--model.dropout 0.3` |  |  |  |  | 99.00 |  |\n"
        "\nBudget: `--steps 2`.\n\n"
        "- cpu: 2 cores, A chip, cpu; a run took 11.0 min (median of 5)\n"
        "- gpu: 2 cores, A chip, gpu; a run took 11.0 min (median of 4)\n"
        f"{ablation.END}\nafter\n"
    )


def test_records_that_cannot_be_compared_or_read_are_refused(root):
    record(root, "cpu", "recipe", 0, 31.0)
    record(root, "cpu", "recipe", 1, 31.0, hardware={"processor": "A chip", "cores": 1, "devices": ["cpu"]})
    with pytest.raises(
        InputError, match=r"cpu holds runs of 1 cores, A chip, cpu and 2 cores, A chip, cpu\. Put those "
    ):
        results.main([], root)
    (root / ablation.RECORDED / "cpu/recipe.1.json").write_text("{")
    with pytest.raises(InputError, match=r"recipe\.1\.json is no JSON \(.*\)\. Restore the file, or delete it"):
        results.main([], root)


def test_ctrl_c_waits_for_the_training_which_saves(tmp_path):
    training = (
        "import pathlib, signal, sys, time\n"
        "def save(*_):\n    time.sleep(1)\n    pathlib.Path('saved').touch()\n    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, save)\npathlib.Path('begun').touch()\ntime.sleep(60)\n"
    )
    program = (
        "import signal, sys\nfrom pathlib import Path\nfrom benchmarks.ablation import finished\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.exit(finished([sys.executable, '-c', {training!r}], Path({str(tmp_path)!r})))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ablation.ROOT, start_new_session=True) as process:
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 130
    assert (tmp_path / "saved").exists()


def test_an_unknown_variant_is_refused(root):
    with pytest.raises(InputError, match=r"there is no variant 'post'\. Choose from: recipe, post-norm, "):
        ablation.main(["--only", "post"], root)
