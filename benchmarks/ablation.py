"""What each choice of configs/multi30k_fast.py is worth: python -m benchmarks.ablation.

Trains the recipe as it was before this was known, and variants of it, as train.py does, each with 2,000 updates and two
seeds, and scores them on the validation set, so that the test set decides nothing. A run that was interrupted goes on;
one that is recorded is not repeated. ``python -m benchmarks.results`` makes the table from the records, which outlive
the options that were not worth keeping.

    python -m benchmarks.ablation                           # all: hours
    python -m benchmarks.ablation --only recipe post-norm
    python -m benchmarks.ablation --machine h100            # records of another machine, in columns of their own
    taskset -c 1 python -m benchmarks.ablation --machine cpu-1-core --seeds 1    # and another seed on another core
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.record import describe_hardware, with_defaults, read_record
from transformer_jax.commands.cli import parse_arguments
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.recipe import load_recipe
from transformer_jax.commands.train import parse_train
from transformer_jax.errors import InputError, RunError, StoppedBySignal
from transformer_jax.storage import atomic

ROOT = Path(__file__).parent.parent
RECORDED = Path("benchmarks/results/ablation")
BEGIN = "<!-- ablation: written by python -m benchmarks.results -->"
END = "<!-- ablation: end -->"
RECIPE = Path("configs/multi30k_fast.py")
BASE = "recipe"
"""The variant that changes nothing."""

EARLIER = "--tokenizer.size 5000 --optimizer.factor 0.6 --optimizer.warmup 200 --training.valid-every 4000"
"""Where all variants begin: what the recipe had before this table. What helped is in it now."""

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
    "10,000 pieces, warm-up x 2, same peak": "--tokenizer.size 10000 --optimizer.factor 0.85 --optimizer.warmup 400",
    "width 192, 3 + 3 layers": "--model.d-model 192 --model.d-ff 384 --model.encoder-layers 3 --model.decoder-layers 3",
}
"""Name -> what is changed."""

STEPS = 2000
"""Updates of every run, unless the variant has others."""


@dataclass(frozen=True)
class AblationCommand:
    """Train variants of a recipe, and record what they score on the validation set."""

    only: tuple[str, ...] = tuple(VARIANTS)
    """Which variants."""
    seeds: tuple[int, ...] = (0, 1)
    """One run each."""
    machine: str = "cpu"
    """Folder of the records: only runs of one machine are compared with each other."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Train what is not recorded yet. root: the checkout that holds recipe and records."""
    command = parse_arguments(AblationCommand(), arguments, "-m benchmarks.ablation")
    for variant in command.only:
        if variant not in VARIANTS:
            raise InputError(f"there is no variant {variant!r}. Choose from: {', '.join(VARIANTS)}.")
    if not command.only or not command.seeds:
        raise InputError("there is nothing to train. Give at least one of --only and of --seeds.")
    for seed in command.seeds:
        for variant in command.only:
            name = f"{variant.replace(' ', '-').replace(',', '')}.{seed}"
            train(variant, seed, root / RECORDED / command.machine / f"{name}.json", root)


def train(variant: str, seed: int, record: Path, root: Path) -> None:
    """One run, and its record; nothing if it is recorded. Raises InputError if that is of other settings."""
    folder = Path("runs/ablation") / record.parent.name / record.stem
    budget, valid = f"--training.steps {STEPS}", load_recipe(root / RECIPE).data.valid
    options = [
        *shlex.split(f"{EARLIER} {budget} {VARIANTS[variant]}"),
        "--training.seed",
        str(seed),
        "--data.test",
        valid,
    ]
    if record.exists():
        known = read_record(record, lambda found: with_defaults(found["config"]))
        wanted = dataclasses.asdict(parse_train(["--config", str(root / RECIPE), *options]).config)
        changed = [f"{s}.{name}" for s in wanted for name, value in wanted[s].items() if known[s][name] != value]
        if changed:
            raise InputError(f"{record} is of other settings: {', '.join(changed)}. Delete it and {root / folder}.")
        return
    arguments = ["train.py", "--config", str(RECIPE), "--workdir", str(folder), *options]
    command = shlex.join(["python", *arguments])
    status = finished([sys.executable, *arguments], root)
    if status > 128:
        raise StoppedBySignal(f"{command} was interrupted. Give the same command again to go on.", status - 128)
    if status:
        raise RunError(f"{command} failed: see above. The runs before it are recorded.")
    results = json.loads((root / folder / "results.json").read_text(encoding="utf-8"))
    found = {"variant": variant, "options": VARIANTS[variant], "budget": budget, **results}
    record.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(record, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    _machines([read(path) for path in record.parent.glob("*.json")])  # Now, not when all are trained.


def finished(arguments: Sequence[str], folder: Path) -> int:
    """The exit status of a command. Ctrl-C reaches it, too, and it is waited for: train.py then saves."""
    with subprocess.Popen(arguments, cwd=folder) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


class Run(NamedTuple):
    """A recorded run. score: tokenised BLEU on the validation set."""

    machine: str
    variant: str
    seed: int
    score: float
    budget: str
    hardware: str
    minutes: float


def read(path: Path) -> Run:
    """A run from its record. Raises InputError if that is damaged."""

    def run(record: Any) -> Run:
        score, hardware = record["scores"]["BLEU-tokenized"]["value"], describe_hardware(record["hardware"])
        minutes = record["wall_seconds"] / 60
        return Run(path.parent.name, record["variant"], record["seed"], score, record["budget"], hardware, minutes)

    return read_record(path, run)


def table(root: Path) -> str:
    """The records, the best variant first: a column for each seed of each machine, and the mean of what a variant is
    above the recipe with the same seed on the same machine.
    """
    runs = [read(path) for path in sorted((root / RECORDED).glob("*/*.json"))]
    if not runs:
        return "No run is recorded yet.\n"
    scores: dict[str, dict[tuple[str, int], float]] = {BASE: {}}
    for run in runs:
        scores.setdefault(run.variant, {})[run.machine, run.seed] = run.score
    above = {
        variant: [value - scores[BASE][column] for column, value in found.items() if column in scores[BASE]]
        for variant, found in scores.items()
    }
    gains = {variant: statistics.fmean(values) if values else -math.inf for variant, values in above.items()}
    columns = sorted({column for found in scores.values() for column in found})
    header = ["variant", "options", *(f"{machine}, seed {seed}" for machine, seed in columns), "above the recipe"]
    rows = [header, ["---"] * len(header)]
    for variant in sorted(scores, key=lambda variant: -gains[variant]):
        rows.append(
            [
                variant,
                "an option that is gone" if variant not in VARIANTS else VARIANTS[variant] and f"`{VARIANTS[variant]}`",
                *(f"{scores[variant][column]:.2f}" if column in scores[variant] else "" for column in columns),
                f"{gains[variant]:+.2f}" if variant != BASE and above[variant] else "",
            ]
        )
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    budgets = ", ".join(f"`{budget}`" for budget in sorted({run.budget for run in runs}))
    return f"{lines}\nBudget: {budgets}.\n\n{_machines(runs)}"


def _machines(runs: Sequence[Run]) -> str:
    """A line for each machine: what it is, and how long its runs took. Raises InputError if they are of several."""
    lines = ""
    for machine in sorted({run.machine for run in runs}):
        hardware = sorted({run.hardware for run in runs if run.machine == machine})
        if len(hardware) > 1:
            raise InputError(
                f"{RECORDED / machine} holds runs of {' and '.join(hardware)}. Give each a folder of its own."
            )
        minutes = [run.minutes for run in runs if run.machine == machine]
        lines += f"- {machine}: {hardware[0]}; {len(minutes)} runs, of {min(minutes):.1f} to {max(minutes):.1f} min\n"
    return lines


if __name__ == "__main__":
    sys.exit(run_command(main))
