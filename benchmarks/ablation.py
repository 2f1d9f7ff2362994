"""Ablation of configs/multi30k_fast.py: the effect of each design choice on BLEU.

The benchmark trains an earlier version of the recipe, and variants of it, for 2,000 steps with two seeds each. All runs
are scored on the validation set, so no choice depends on the test set. Interrupted runs resume. Recorded runs are not
repeated. ``python -m benchmarks.results`` builds the table from the records, including those of variants whose options
have since been removed.

    python -m benchmarks.ablation                           # all variants (takes hours)
    python -m benchmarks.ablation --only recipe post-norm
    python -m benchmarks.ablation --machine h100            # a separate column for another machine
    taskset -c 1 python -m benchmarks.ablation --machine cpu-1-core --seeds 1    # seed 1, on one core
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

from benchmarks.record import describe_hardware, read_record, with_defaults
from benchmarks.significance import COLUMN, NOT_TESTED, describe_significance, record_translations
from transformer_jax.commands.cli import parse_arguments, run_command
from transformer_jax.commands.recipe import load_recipe
from transformer_jax.commands.train import parse_train
from transformer_jax.errors import InputError, RunError, StoppedBySignal
from transformer_jax.storage import atomic

ROOT = Path(__file__).parent.parent
RECORDS = Path("benchmarks/results/ablation")
BEGIN_MARKER = "<!-- ablation: written by python -m benchmarks.results -->"
END_MARKER = "<!-- ablation: end -->"
RECIPE = Path("configs/multi30k_fast.py")
BASE = "recipe"
"""Name of the unchanged variant."""

BASE_OPTIONS = "--tokenizer.size 5000 --optimizer.factor 0.6 --optimizer.warmup 200 --training.valid-every 4000"
"""Options that all variants share. They restore the recipe as it was before its ablation."""

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
"""Variant name -> options added to BASE_OPTIONS."""

STEPS = 2000
"""Number of training steps, unless the variant sets it."""


@dataclass(frozen=True)
class AblationCommand:
    """Train variants of a recipe and record their BLEU on the validation set."""

    only: tuple[str, ...] = tuple(VARIANTS)
    """Names of the variants to train."""
    seeds: tuple[int, ...] = (0, 1)
    """Random seeds. Each variant is trained once per seed."""
    machine: str = "cpu"
    """Name of the machine, used as the directory of its records. Only runs on the same machine are compared."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Train and record every run that has no record yet.

    root: repository root.
    """
    command = parse_arguments(AblationCommand(), arguments, "python -m benchmarks.ablation")
    for variant in command.only:
        if variant not in VARIANTS:
            raise InputError(f"unknown variant {variant!r}. Choose from: {', '.join(VARIANTS)}.")
    if not command.only or not command.seeds:
        raise InputError("no variant or seed given. Run: python -m benchmarks.ablation --only recipe --seeds 0")
    for seed in command.seeds:
        for variant in command.only:
            name = f"{variant.replace(' ', '-').replace(',', '')}.{seed}"
            train_variant(variant, seed, root / RECORDS / command.machine / f"{name}.json", root)


def train_variant(variant: str, seed: int, record: Path, root: Path) -> None:
    """Train and record one run, unless it is already recorded.

    Raises InputError if the record was made with a different config.
    """
    workdir = Path("runs/ablation") / record.parent.name / record.stem
    budget, valid = f"--training.steps {STEPS}", load_recipe(root / RECIPE).data.valid
    options = [
        *shlex.split(f"{BASE_OPTIONS} {budget} {VARIANTS[variant]}"),
        "--training.seed",
        str(seed),
        "--data.test",
        valid,
    ]
    if record.exists():
        recorded = read_record(record, lambda values: with_defaults(values["config"]))
        config = dataclasses.asdict(parse_train(["--config", str(root / RECIPE), *options]).config)
        changed = [
            f"{section}.{name}"
            for section, fields in config.items()
            for name, value in fields.items()
            if recorded[section][name] != value
        ]
        if changed:
            raise InputError(
                f"{record} was made with other values of {', '.join(changed)}. Run: rm -r {record} {root / workdir}"
            )
        return
    arguments = ["train.py", "--config", str(RECIPE), "--workdir", str(workdir), *options]
    command = shlex.join(["python", *arguments])
    status = exit_status([sys.executable, *arguments], root)
    if status > 128:
        raise StoppedBySignal(f"{command} was interrupted. Run the ablation again to resume it.", status - 128)
    if status:
        raise RunError(f"{command} failed with the error above. Fix the error and run the ablation again.")
    results = json.loads((root / workdir / "results.json").read_text(encoding="utf-8"))
    values = {"variant": variant, "options": VARIANTS[variant], "budget": budget, **results}
    record.parent.mkdir(parents=True, exist_ok=True)
    values |= record_translations(root / workdir, record, record.with_name(f"{BASE}.{seed}.json"))
    atomic.write_text(record, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    # Check the hardware after every run, so that mixed records are reported before the remaining runs are trained.
    _machine_notes([read_run(path) for path in record.parent.glob("*.json")])


def exit_status(arguments: Sequence[str], directory: Path) -> int:
    """Run a command and return its exit status.

    After Ctrl-C, wait until the command exits, because train.py then saves a checkpoint.
    """
    with subprocess.Popen(arguments, cwd=directory) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


class AblationRun(NamedTuple):
    """A recorded run.

    machine: name of the directory with the record.
    score: tokenized BLEU on the validation set.
    budget: training options that fix the number of steps.
    minutes: wall time.
    significance: p-values of the difference from the recipe with the same seed and machine.
    """

    machine: str
    variant: str
    seed: int
    score: float
    budget: str
    hardware: str
    minutes: float
    significance: str


def read_run(path: Path) -> AblationRun:
    """Read a recorded run.

    Raises InputError if the record is damaged.
    """

    def extract(record: Any) -> AblationRun:
        score, hardware = record["scores"]["BLEU-tokenized"]["value"], describe_hardware(record["hardware"])
        minutes = record["wall_seconds"] / 60
        variant, seed, budget = record["variant"], record["seed"], record["budget"]
        significance = describe_significance(record, path.parent, "BLEU-tokenized")
        return AblationRun(path.parent.name, variant, seed, score, budget, hardware, minutes, significance)

    return read_record(path, extract)


def ablation_table(root: Path) -> str:
    """Return a table of all recorded runs, sorted by their gain over the recipe.

    The table has one row per variant and one BLEU column per machine and seed. The gain is the mean difference in BLEU
    from the recipe trained with the same seed on the same machine. The p-values are those of each difference.
    """
    runs = [read_run(path) for path in sorted((root / RECORDS).glob("*/*.json"))]
    if not runs:
        return "No run is recorded yet.\n"
    scores: dict[str, dict[tuple[str, int], float]] = {BASE: {}}
    for run in runs:
        scores.setdefault(run.variant, {})[run.machine, run.seed] = run.score
    differences = {
        variant: [value - scores[BASE][column] for column, value in row.items() if column in scores[BASE]]
        for variant, row in scores.items()
    }
    gains = {variant: statistics.fmean(values) if values else -math.inf for variant, values in differences.items()}
    columns = sorted({column for row in scores.values() for column in row})
    names = [f"{machine}, seed {seed}" for machine, seed in columns]
    header = ["variant", "options", *names, "gain over the recipe", COLUMN]
    rows = [header, ["---"] * len(header)]
    for variant in sorted(scores, key=lambda variant: -gains[variant]):
        rows.append(
            [
                variant,
                "a removed option" if variant not in VARIANTS else VARIANTS[variant] and f"`{VARIANTS[variant]}`",
                *(f"{scores[variant][column]:.2f}" if column in scores[variant] else "" for column in columns),
                f"{gains[variant]:+.2f}" if variant != BASE and differences[variant] else "",
                _p_values([run for run in runs if run.variant == variant]) if variant != BASE else "",
            ]
        )
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    budgets = ", ".join(f"`{budget}`" for budget in sorted({run.budget for run in runs}))
    return f"{lines}\nBudget: {budgets}.\n\n{_machine_notes(runs)}"


def _p_values(runs: Sequence[AblationRun]) -> str:
    """Return the p-values of a variant's runs, each with its machine and seed."""
    tested = sorted(run for run in runs if run.significance != NOT_TESTED)
    return "; ".join(f"{run.significance} ({run.machine}, seed {run.seed})" for run in tested) or NOT_TESTED


def _machine_notes(runs: Sequence[AblationRun]) -> str:
    """Return one line per machine with its hardware, number of runs and wall times.

    Raises InputError if the records of one machine name different hardware.
    """
    lines = ""
    for machine in sorted({run.machine for run in runs}):
        hardware = sorted({run.hardware for run in runs if run.machine == machine})
        if len(hardware) > 1:
            raise InputError(
                f"{RECORDS / machine} has runs on different hardware: {' and '.join(hardware)}. "
                "Move the runs of one to another directory, and set --machine to its name."
            )
        minutes = [run.minutes for run in runs if run.machine == machine]
        lines += f"- {machine}: {hardware[0]}; {len(minutes)} runs of {min(minutes):.1f} to {max(minutes):.1f} min\n"
    return lines


if __name__ == "__main__":
    sys.exit(run_command(main))
