"""What each choice of configs/multi30k_fast.py is worth: python -m benchmarks.ablation.

Trains the recipe and variants of it as train.py does, each with half of the recipe's updates and with two seeds, and
scores them on the validation set, so that the test set decides nothing. A run that was interrupted goes on; one that is
recorded is not repeated. ``python -m benchmarks.results`` makes the table from the records, which outlive the options
that were not worth keeping.

    python -m benchmarks.ablation                           # all: hours
    python -m benchmarks.ablation --only recipe post-norm
    taskset -c 1 python -m benchmarks.ablation --seeds 1    # on one core; another seed on another
    python -m benchmarks.ablation --machine h100            # records of a machine that the table shows by itself
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer_jax import atomic, recipes
from transformer_jax.command import parse
from transformer_jax.command import run as run_command
from transformer_jax.errors import InputError, RunError

ROOT = Path(__file__).parent.parent
RECORDED = Path("benchmarks/results/ablation")
BEGIN = "<!-- ablation: written by python -m benchmarks.results -->"
END = "<!-- ablation: end -->"
RECIPE = Path("configs/multi30k_fast.py")
BASE = "recipe"
"""The variant that changes nothing."""

VARIANTS = {
    BASE: "",
    "post-norm": "--model.norm post",
    "post-norm, half the rate": "--model.norm post --optimizer.warmup 800",
    "learning rate x 2": "--optimizer.factor 1.2",
    "learning rate x 0.5": "--optimizer.factor 0.3",
    "warm-up x 2, same peak": "--optimizer.factor 0.85 --optimizer.warmup 400",
    "inverse square root": "--optimizer.schedule inverse_sqrt",
    "batch x 2, half the updates": "--data.batch-tokens 4096 --training.steps 1000 --optimizer.warmup 100",
    "no average of weights": "--training.ema 0",
    "dropout 0.05": "--model.dropout 0.05",
    "dropout 0.3": "--model.dropout 0.3",
    "R-Drop, half the sentences": "--training.r-drop 4 --data.batch-tokens 1024",
    "no label smoothing": "--training.label-smoothing 0",
    "label smoothing 0.2": "--training.label-smoothing 0.2",
    "10,000 pieces": "--tokenizer.size 10000",
    "width 192, 3 + 3 layers": "--model.d-model 192 --model.d-ff 384 --model.encoder-layers 3 --model.decoder-layers 3",
}
"""Name -> what is changed."""


@dataclass(frozen=True)
class AblationCommand:
    """Train variants of a recipe, and record what they score on the validation set."""

    only: tuple[str, ...] = tuple(VARIANTS)
    """Which variants."""
    seeds: tuple[int, ...] = (0, 1)
    """One run each."""
    steps: int = 2000
    """Updates of every run."""
    machine: str = "cpu"
    """Folder of the records: only runs of one machine are compared."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Train what is not recorded yet. root: the checkout that holds recipe and records."""
    command = parse(AblationCommand(), arguments, "-m benchmarks.ablation")
    for variant in command.only:
        if variant not in VARIANTS:
            raise InputError(f"there is no variant {variant!r}. Choose from: {', '.join(VARIANTS)}.")
    for seed in command.seeds:
        for variant in command.only:
            name = f"{variant.replace(' ', '-').replace(',', '')}.{seed}"
            record = root / RECORDED / command.machine / f"{name}.json"
            budget = f"--training.steps {command.steps}"
            if not record.exists():
                train(variant, seed, budget, root, record)
            elif (known := json.loads(record.read_text(encoding="utf-8"))["budget"]) != budget:
                raise InputError(f"{record} has the budget {known}. Delete it, or give {known}.")


def train(variant: str, seed: int, budget: str, root: Path, record: Path) -> None:
    """One run, and its record. budget: options of train.py, which those of the variant may overrule."""
    folder = Path("runs/ablation") / record.stem
    valid = recipes.load(root / RECIPE).data.valid
    options = [*shlex.split(f"{budget} {VARIANTS[variant]}"), "--training.seed", str(seed), "--data.test", valid]
    arguments = ["train.py", "--config", str(RECIPE), "--workdir", str(folder), *options]
    if subprocess.run([sys.executable, *arguments], cwd=root, check=False).returncode:
        raise RunError(f"{shlex.join(['python', *arguments])} failed: see above. The runs before it are recorded.")
    results = json.loads((root / folder / "results.json").read_text(encoding="utf-8"))
    found = {"variant": variant, "options": VARIANTS[variant], "budget": budget, **results}
    record.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(record, json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def tables(root: Path) -> str:
    """The records of each machine as a table."""
    machines = sorted({path.parent for path in (root / RECORDED).glob("*/*.json")})
    return "\n".join(map(table, machines)) or "No run is recorded yet.\n"


def table(folder: Path) -> str:
    """Records, the best variant first: scores of the seeds, their mean, and what it is above the recipe's."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    by_variant: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_variant.setdefault(record["variant"], []).append(record)
    means = {variant: statistics.mean(map(_score, runs)) for variant, runs in by_variant.items()}
    rows = [["variant", "options", "each seed", "mean", "above the recipe", "wall time"], ["---"] * 6]
    for variant in sorted(by_variant, key=lambda variant: -means[variant]):
        runs = by_variant[variant]
        above = f"{means[variant] - means[BASE]:+.2f}" if BASE in means and variant != BASE else ""
        minutes = statistics.mean(run["wall_seconds"] for run in runs) / 60
        scores = ", ".join(f"{_score(run):.2f}" for run in runs)
        options = f"`{runs[0]['options']}`" if runs[0]["options"] else ""
        rows.append([variant, options, scores, f"{means[variant]:.2f}", above, f"{minutes:.1f} min"])
    budgets = sorted({record["budget"] for record in records})
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{lines}\nBudget: {', '.join(f'`{budget}`' for budget in budgets)}. Hardware: {_hardware(records)}.\n"


def _score(record: dict[str, Any]) -> float:
    return float(record["scores"]["BLEU-tokenized"]["value"])


def _hardware(records: Sequence[dict[str, Any]]) -> str:
    found = [record["hardware"] for record in records]
    return "; ".join(sorted({f"{one['cores']} cores, {one['processor']}, {one['devices'][0]}" for one in found}))


if __name__ == "__main__":
    sys.exit(run_command(main))
