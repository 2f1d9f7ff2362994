"""Variants of a recipe are trained, recorded once and shown in a table."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import ablation, results
from transformer_jax.commands.recipe import load_recipe
from transformer_jax.errors import InputError, RunError, StoppedBySignal

RECIPE = """
from transformer_jax.config import *
config = Config(
    model=ModelConfig(d_model=16, d_ff=19, heads=2, encoder_layers=1, decoder_layers=1, norm="pre"),
    data=DataConfig(*[f"{name}.{{lang}}" for name in ("train", "valid", "test")], max_length=11, batch_tokens=107),
    tokenizer=TokenizerConfig(kind="word", size=23),
    decoding=DecodingConfig(beam=1),
)
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with a recipe for tokenized text and a page for the table."""
    for directory in ("configs", "docs/results"):
        (tmp_path / directory).mkdir(parents=True)
    shutil.copy(ablation.ROOT / "train.py", tmp_path)
    (tmp_path / "configs/multi30k_fast.py").write_text(RECIPE)
    for name in ("train", "valid", "test"):
        for language in ("en", "de"):
            (tmp_path / f"{name}.{language}").write_text(f"a {name} b .\nb a .\n" * 13)
    empty = f"{results.BEGIN_MARKER}\n{results.END_MARKER}\n"
    for name in ("README.md", "docs/results/README.md"):
        (tmp_path / name).write_text(empty)
    (tmp_path / "docs/results/multi30k.md").write_text(
        f"{empty}before\n{ablation.BEGIN_MARKER}\n{ablation.END_MARKER}\nafter\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ablation.ROOT), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def test_variants_use_no_test_text_and_are_recorded_once(root, monkeypatch):
    monkeypatch.setattr(ablation, "STEPS", 2)
    (root / "test.en").unlink()
    ablation.main(["--only", "recipe", "post-norm", "--seeds", "3"], root)
    records = {path.name: json.loads(path.read_text()) for path in (root / ablation.RECORDS / "cpu").glob("*.json")}
    assert records.keys() == {"recipe.3.json", "post-norm.3.json"}
    assert [record["config"]["model"]["norm"] for _, record in sorted(records.items())] == ["post", "pre"]
    assert {record["test"] for record in records.values()} == {"valid.{lang}"}
    assert {record["seed"] for record in records.values()} == {3}

    before = (root / ablation.RECORDS / "cpu/recipe.3.json").stat()
    ablation.main(["--only", "recipe", "--seeds", "3"], root)
    assert (root / ablation.RECORDS / "cpu/recipe.3.json").stat() == before
    (root / ablation.RECIPE).write_text(RECIPE.replace("heads=2", "heads=4"))
    with pytest.raises(
        InputError, match=r"recipe\.3\.json was made with other values of model\.heads\. Run: rm -r .*/rec"
    ):
        ablation.main(["--only", "recipe", "--seeds", "3"], root)

    results.main([], root)
    assert "| recipe |" in (root / "docs/results/multi30k.md").read_text()


def record(root, machine, variant, seed, value, **changes):
    """Write the record of one run."""
    path = root / ablation.RECORDS / machine / f"{variant}.{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "variant": variant,
        "options": ablation.VARIANTS.get(variant, "--model.gone 1"),
        "budget": "--steps 2",
        "seed": seed,
        "scores": {"BLEU-tokenized": {"value": value, "signature": ""}},
        "wall_seconds": 660,
        "hardware": {"processor": "A chip", "cores": 2, "devices": [machine]},
    }
    path.write_text(json.dumps(values | changes))


def test_table_compares_same_seeds_of_a_machine_best_first(root):
    for seed, value in ((0, 31.0), (2, 32.0), (10, 39.0)):
        record(root, "cpu", "recipe", seed, value)
    for seed, value in ((2, 35.0), (10, 43.0)):
        record(root, "cpu", "post-norm", seed, value)
    record(root, "gpu", "recipe", 0, 50.0)
    record(root, "gpu", "gone", 0, 49.0, wall_seconds=720)
    record(root, "gpu", "post-norm", 1, 90.0)
    record(root, "gpu", "dropout 0.3", 1, 99.0)
    results.main([], root)
    page = (root / "docs/results/multi30k.md").read_text()
    assert page.endswith(
        f"before\n{ablation.BEGIN_MARKER}\n"
        "| variant | options | cpu, seed 0 | cpu, seed 2 | cpu, seed 10 | gpu, seed 0 | gpu, seed 1 "
        "| gain over the recipe | p (bootstrap, randomization) |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| post-norm | `--model.norm post` |  | 35.00 | 43.00 |  | 90.00 | +3.50 | not tested |\n"
        "| recipe |  | 31.00 | 32.00 | 39.00 | 50.00 |  |  |  |\n"
        "| gone | a removed option |  |  |  | 49.00 |  | -1.00 | not tested |\n"
        "| dropout 0.3 | `--model.dropout 0.3` |  |  |  |  | 99.00 |  | not tested |\n"
        "\nBudget: `--steps 2`.\n\n"
        "- cpu: 2 cores, A chip; 5 runs of 11.0 to 11.0 min\n"
        "- gpu: 1 x gpu; 4 runs of 11.0 to 12.0 min\n"
        f"{ablation.END_MARKER}\nafter\n"
    )


def test_table_shows_p_values_of_the_seeds_that_were_tested(root):
    record(root, "cpu", "recipe", 0, 31.0)
    translations = root / ablation.RECORDS / "cpu/recipe.0.hyp.txt.gz"
    translations.write_bytes(b"13 lines")
    checksum = hashlib.sha256(b"13 lines").hexdigest()
    p_values = {"BLEU-tokenized": {"bootstrap": 0.0123, "randomization": 0.5}}
    significance = {"against": "recipe.0", "translations": checksum, **p_values}
    record(root, "cpu", "post-norm", 0, 35.0, significance=significance)
    record(root, "cpu", "post-norm", 1, 36.0)
    results.main([], root)
    page = root / "docs/results/multi30k.md"
    assert "| 35.00 | 36.00 | +4.00 | 0.0123, 0.5000 (cpu, seed 0) |\n" in page.read_text()
    translations.write_bytes(b"another recipe")
    results.main([], root)
    assert "| 35.00 | 36.00 | +4.00 | not tested |\n" in page.read_text()


def test_mixed_hardware_and_damaged_records_are_refused(root):
    record(root, "cpu", "recipe", 0, 31.0)
    record(root, "cpu", "recipe", 1, 31.0, hardware={"processor": "A chip", "cores": 1, "devices": ["cpu"]})
    with pytest.raises(
        InputError, match=r"cpu has runs on different hardware: 1 core, A chip and 2 cores, A chip\. Move .* --machine"
    ):
        results.main([], root)
    path = root / ablation.RECORDS / "cpu/recipe.1.json"
    for damaged in ("{", "[]", json.dumps({"variant": "recipe"})):
        path.write_text(damaged)
        with pytest.raises(InputError, match=r"recipe\.1\.json is damaged or has an old format \(.*\)\. Restore"):
            results.main([], root)


def test_another_machine_is_refused_after_the_first_run(root, monkeypatch):
    monkeypatch.setattr(ablation, "STEPS", 2)
    record(root, "cpu", "recipe", 1, 31.0, hardware={"processor": "A chip", "cores": 1009, "devices": ["cpu"]})
    with pytest.raises(
        InputError, match=r"ablation/cpu has runs on different hardware: .*1009 cores, A chip.* --machine"
    ):
        ablation.main(["--only", "recipe", "post-norm", "--seeds", "3"], root)
    assert not (root / "runs/ablation/cpu/post-norm.3").exists()


def test_field_newer_than_a_record_counts_with_its_default(root, monkeypatch):
    config = dataclasses.asdict(load_recipe(root / ablation.RECIPE))
    config["training"]["steps"], config["data"]["test"] = ablation.STEPS, "valid.{lang}"
    monkeypatch.setattr(ablation, "BASE_OPTIONS", "")
    del config["training"]["r_drop"]
    record(root, "cpu", "recipe", 0, 31.0, config=config)
    monkeypatch.setattr(ablation, "exit_status", None)  # A training would fail.
    ablation.main(["--only", "recipe", "--seeds", "0"], root)


@pytest.mark.parametrize(
    ("status", "error"), [(130, StoppedBySignal), (143, StoppedBySignal), (1, RunError), (2, RunError)]
)
def test_failed_training_ends_the_ablation_unrecorded(status, error, root, monkeypatch):
    monkeypatch.setattr(ablation, "exit_status", lambda arguments, directory: status)
    with pytest.raises(error, match=r"^python train\.py .* --training\.seed 3 ") as ended:
        ablation.main(["--only", "recipe", "post-norm", "--seeds", "3"], root)
    if error is StoppedBySignal:
        assert ended.value.status == status
    assert not (root / ablation.RECORDS).exists()


def test_ctrl_c_waits_until_the_training_has_saved(tmp_path):
    training = (
        "import pathlib, signal, sys, time\n"
        "def save(*_):\n    time.sleep(1)\n    pathlib.Path('saved').touch()\n    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, save)\npathlib.Path('begun').touch()\ntime.sleep(60)\n"
    )
    program = (
        "import signal, sys\nfrom pathlib import Path\nfrom benchmarks.ablation import exit_status\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.exit(exit_status([sys.executable, '-c', {training!r}], Path({str(tmp_path)!r})))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ablation.ROOT, start_new_session=True) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 130
    assert (tmp_path / "saved").exists()


def test_unknown_variant_is_refused(root):
    with pytest.raises(InputError, match=r"unknown variant 'post'\. Choose from: recipe, post-norm, "):
        ablation.main(["--only", "post"], root)


@pytest.mark.parametrize("option", ["--only", "--seeds"])
def test_empty_selection_is_refused(option, root):
    with pytest.raises(InputError, match="no variant or seed given"):
        ablation.main([option], root)
