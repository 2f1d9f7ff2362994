"""A small checkout and finished runs, for the tests of result tables and recorded runs."""

import dataclasses
import json
import shutil

import pytest

from benchmarks.results import BEGIN_MARKER, END_MARKER, ROOT
from transformer_jax.commands.recipe import load_recipe
from transformer_jax.config import save_config


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
