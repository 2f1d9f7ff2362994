"""Result tables in README.md and docs/results/, built from recorded runs: python -m benchmarks.results.

A recorded run is a results.json written by train.py and copied to benchmarks/results/runs/NAME.json. README.md has the
scores of unmodified recipes. docs/results/README.md also has their commands and signatures. docs/results/X.md has all
runs of the recipes whose names start with X, unless a page with a longer name also matches. Runs that are older than
the normalization of their recipe are marked. Pages may also contain the tables of ``benchmarks/ablation.py`` and
``benchmarks/search_settings.py``.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shlex
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import ablation, search_settings
from benchmarks.record import describe_hardware, with_defaults
from benchmarks.significance import COLUMN, describe_significance, record_translations
from transformer_jax.commands.cli import parse_arguments, run_command
from transformer_jax.commands.recipe import load_recipe
from transformer_jax.config import Config
from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic
from transformer_jax.terminal import quote_command

ROOT = Path(__file__).parent.parent
RECORDS = Path("benchmarks/results/runs")
BEGIN_MARKER = "<!-- results: written by python -m benchmarks.results -->"
END_MARKER = "<!-- results: end -->"


@dataclass(frozen=True)
class ResultsCommand:
    """Rebuild the result tables from the recorded runs."""

    add: tuple[Path, ...] = ()
    """Directories of finished runs to record before the tables are rebuilt. A run is tested against the recorded run
    with the name of its recipe, so add that one first."""
    check: bool = False
    """Do not write files. Exit with an error if a table is out of date."""
    debug: bool = False
    """Show the traceback of an error."""


class RecordedRun(NamedTuple):
    """A recorded run.

    values: the content of results.json.
    changes: option -> value, for every option in which the run differs from the current recipe.
    significance: p-values of the difference in sacreBLEU from the run that is named like the recipe.
    """

    name: str
    values: dict[str, Any]
    changes: dict[str, str]
    significance: str

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return self.values["recipe"]

    @property
    def is_before_normalization(self) -> bool:
        """Whether the run is older than ``tokenizer.normalization``, which its recipe now sets."""
        return "normalization" not in self.values["config"]["tokenizer"] and NORMALIZATION in self.changes

    @property
    def command(self) -> str:
        """Command that repeats the run."""
        config = [] if self.recipe == "phrasebook" else ["--config", f"configs/{self.recipe}.py"]
        workdir = [] if self.name == self.recipe else ["--workdir", f"runs/{self.name}"]
        options = itertools.chain.from_iterable(self.changes.items())
        return shlex.join(["python", "train.py", *config, *workdir, *options])


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Record the given runs, then rebuild or check all tables.

    root: repository root.
    """
    command = parse_arguments(ResultsCommand(), arguments, "python -m benchmarks.results")
    if command.add and command.check:
        raise InputError("--check and --add are mutually exclusive. Remove one of them.")
    for workdir in command.add:
        record_run(workdir, root)
    runs = sorted(read_run(path, root) for path in (root / RECORDS).glob("*.json"))
    stale = []
    pages = [
        path for path in sorted((root / "docs/results").glob("*.md")) if any(root.glob(f"configs/{path.stem}*.py"))
    ]
    for document in [root / "README.md", root / "docs/results/README.md", *pages]:
        text = document.read_text(encoding="utf-8")
        rebuilt = replace_block(text, BEGIN_MARKER, END_MARKER, results_block(document, runs, root), document)
        for begin, end, block in (
            (ablation.BEGIN_MARKER, ablation.END_MARKER, ablation.ablation_table(root)),
            (
                search_settings.BEGIN_MARKER,
                search_settings.END_MARKER,
                search_settings.search_tables(root, document.stem),
            ),
        ):
            if begin in text:
                rebuilt = replace_block(rebuilt, begin, end, block, document)
        if rebuilt != text:
            stale.append(str(document.relative_to(root)))
            if not command.check:
                atomic.write_text(document, rebuilt)
    if command.check and stale:
        raise RunError(f"{', '.join(stale)}: the tables are out of date. Run: python -m benchmarks.results")
    print(f"{len(runs)} recorded runs; {', '.join(stale) or 'nothing'} changed")


def record_run(workdir: Path, root: Path) -> None:
    """Copy a run's results.json to the recorded runs.

    Its translations are also kept, and tested against the recorded run that is named like its recipe.

    Raises InputError if the run is not finished.
    """
    results = workdir / "results.json"
    finish = f"Finish the run: python train.py --config RECIPE {quote_command('--workdir', workdir)}"
    if not results.is_file():
        raise InputError(f"{workdir} has no results.json. {finish}")
    run = read_run(results, root)
    config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    if {name: section for name, section in config.items() if name != "format"} != run.values["config"]:
        raise InputError(f"{results} does not match config.json in the same directory. {finish}")
    record = root / RECORDS / f"{workdir.resolve().name}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    values = run.values | record_translations(workdir, record, record.with_name(f"{run.recipe}.json"))
    atomic.write_text(record, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def read_run(path: Path, root: Path) -> RecordedRun:
    """Read a run from its results.json.

    Raises InputError if a value that the tables need is missing, or if the recipe does not exist.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["recipe"] is None:
            raise InputError(f"{path} does not name a recipe. Train again: python train.py --config RECIPE")
        recipe = root / "configs" / f"{values['recipe']}.py"
        if not recipe.is_file():
            raise InputError(f"{path} needs configs/{recipe.name}, which is missing. Restore the recipe.")
        significance = describe_significance(values, path.parent, "BLEU") if path.stem != recipe.stem else ""
        run = RecordedRun(path.stem, values, changed_options(values["config"], load_recipe(recipe)), significance)
        for column in (*SUMMARY.values(), *DETAILS.values(), signatures):
            column(run)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged or has an old format ({error!r}). Restore the file, or train again."
        ) from error
    return run


def changed_options(config: Mapping[str, Mapping[str, Any]], recipe: Config) -> dict[str, str]:
    """Return the options that change the recipe's config to the config of a run.

    Fields that the run's config lacks have their default values. Raises KeyError if the run's config has a field that
    no longer exists, because such a run cannot be repeated.
    """
    current = dataclasses.asdict(recipe)
    return {
        f"--{section}.{name.replace('_', '-')}": str(value)
        for section, values in with_defaults(config).items()
        for name, value in values.items()
        if value != current[section][name]
    }


def page_of(run: RecordedRun, root: Path) -> str:
    """Return the longest name of a page in docs/results that is a prefix of the run's recipe name; empty if none is."""
    pages = (path.stem for path in (root / "docs/results").glob("*.md"))
    return max((page for page in pages if run.recipe.startswith(page)), key=len, default="")


def results_block(document: Path, runs: Sequence[RecordedRun], root: Path) -> str:
    """Return the tables, commands and signatures to write between the markers of a document."""
    is_overview = document.name == "README.md"
    if is_overview:
        options = {
            run.name: run.changes.keys() - ({NORMALIZATION} if run.is_before_normalization else {}) for run in runs
        }
        of_page = [run for run in runs if options[run.name] <= DATA_OPTIONS | NEUTRAL_OPTIONS]
        shown = [run for run in of_page if options[run.name] <= DATA_OPTIONS]
    else:
        of_page = shown = [run for run in runs if page_of(run, root) == document.stem]
    if not shown:
        return "No run is recorded yet.\n"
    link = os.path.relpath(root / RECORDS, document.parent)
    marks = {run.name: ", before normalization" if run.is_before_normalization else "" for run in shown}
    names = {run.name: f"[{run.name}]({link}/{run.name}.json){marks[run.name]}" for run in shown}
    if document.parent == root:
        return markdown_table({name: SUMMARY[name] for name in README_COLUMNS}, shown, names)
    parts = [markdown_table(SUMMARY, shown, names)]
    if not is_overview:
        parts.append(markdown_table(DETAILS, shown, names))
    commands = "".join(f"{run.command}\n" for run in shown)
    parts.append(f"```bash\n{commands}```\n")
    names_by_signature: dict[str, list[str]] = {}
    for run in shown:
        for signature in signatures(run):
            names_by_signature.setdefault(signature, []).append(run.name)
    notes = [
        *(["before normalization: the recipe did not normalize sources yet"] if any(marks.values()) else []),
        *seed_summaries(of_page),
        *(f"{signature}: {', '.join(run_names)}" for signature, run_names in names_by_signature.items()),
    ]
    wrap = partial(textwrap.fill, width=120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    parts.append("".join(f"{wrap(f'- {note}')}\n" for note in notes))
    return "\n".join(parts)


DATA_OPTIONS = {f"--data.{name}" for name in ("train", "valid", "test", "source", "target")}
"""Options that change only the data of a recipe."""

NORMALIZATION = "--tokenizer.normalization"

NEUTRAL_OPTIONS = {"--training.seed", "--training.save-every", "--training.log-every"}
"""Options that change neither the model nor the training method of a recipe."""


def seed_summaries(runs: Sequence[RecordedRun]) -> Iterator[str]:
    """Yield the mean and the range of each score for each group of runs that differ only in their random seed."""
    scores_by_seed: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for run in runs:
        options = (word for change in run.changes.items() if change[0] not in NEUTRAL_OPTIONS for word in change)
        variant = shlex.join([run.recipe, *options])
        scores_by_seed.setdefault((variant, _hardware(run)), {})[DETAILS["seed"](run)] = run.values["scores"]
    for (variant, hardware), seeds in scores_by_seed.items():
        if len(seeds) > 1:
            values_by_metric = {
                metric: [scores[metric]["value"] for scores in seeds.values()] for metric in next(iter(seeds.values()))
            }
            summaries = (
                f"{metric} {statistics.fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
                for metric, values in values_by_metric.items()
            )
            yield f"{variant}, {len(seeds)} seeds, {hardware}: {', '.join(summaries)}"


def signatures(run: RecordedRun) -> list[str]:
    """Return the name and the sacreBLEU signature of each metric."""
    return [f"{name} `{score['signature']}`" for name, score in run.values["scores"].items()]


def markdown_table(
    columns: Mapping[str, Callable[[RecordedRun], str]], runs: Sequence[RecordedRun], names: Mapping[str, str]
) -> str:
    """Return a Markdown table with one row per run. The first column has the name of the run."""
    rows = [["run", *columns], ["---"] * (1 + len(columns))]
    rows += [[names[run.name], *(cell(run) for cell in columns.values())] for run in runs]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def replace_block(text: str, begin: str, end: str, content: str, document: Path) -> str:
    """Replace the content between two marker lines and return the new text.

    Raises InputError unless each marker occurs exactly once, in the given order.
    """
    before, *after = text.split(f"{begin}\n")
    _, *rest = after[0].split(f"{end}\n") if len(after) == 1 else ("",)
    if len(rest) != 1:
        raise InputError(f"{document} must contain {begin} once, followed by {end}. Restore both lines.")
    return f"{before}{begin}\n{content}{end}\n{rest[0]}"


def _score(name: str) -> Callable[[RecordedRun], str]:
    return lambda run: f"{run.values['scores'][name]['value']:.2f}" if name in run.values["scores"] else ""


def _data(run: RecordedRun) -> str:
    data = run.values["config"]["data"]
    path = Path(data["test"])
    name = path.name.partition(".{lang}")[0] if "{lang}" in path.name else "/".join(path.parts[-2:])
    case = ", lower-cased" if "case:lc" in run.values["scores"]["BLEU"]["signature"] else ""
    overlap = run.values["overlap"]
    size = f", {overlap['sentences']:,} sentences" if overlap else ""
    return f"{name}, {data['source']}-{data['target']}{size}{case}"


def _wall_time(run: RecordedRun) -> str:
    minutes = run.values["wall_seconds"] / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _hardware(run: RecordedRun) -> str:
    return describe_hardware(run.values["hardware"])


def _speed(run: RecordedRun) -> str:
    speed = run.values["target_tokens_per_second"]
    return "" if speed is None else f"{speed:,.0f}"  # The run ended before its first report.


def _overlap(run: RecordedRun) -> str:
    overlap = run.values["overlap"]
    if overlap is None:
        return "unknown"  # The training text was missing when the run resumed.
    return f"{overlap['sources']:,} ({overlap['pairs']:,} with the same translation)"


SUMMARY: dict[str, Callable[[RecordedRun], str]] = {
    "test set": _data,
    "parameters": lambda run: f"{run.values['parameters'] / 1e6:.1f} M",
    "sacreBLEU": _score("BLEU"),
    "chrF": _score("chrF"),
    "tokenized BLEU": _score("BLEU-tokenized"),
    "wall time": _wall_time,
    "hardware": _hardware,
}
"""Column name -> function that returns the cell: the summary of a run."""

README_COLUMNS = ("test set", "sacreBLEU", "wall time", "hardware")

DETAILS: dict[str, Callable[[RecordedRun], str]] = {
    "training pairs": lambda run: f"{run.values['training_pairs']:,}",
    "test sentences in training text": _overlap,
    "steps": lambda run: f"{run.values['config']['training']['steps']:,}",
    "best step": lambda run: f"{run.values['best_step']:,}",
    "sacreBLEU on validation (greedy)": lambda run: ", ".join(
        f"{validation['bleu']:.1f}" for validation in run.values.get("validations", [])
    ),
    COLUMN: lambda run: run.significance,
    "target tokens/s": _speed,
    "seed": lambda run: str(run.values["config"]["training"]["seed"]),
    "beam size": lambda run: "{beam}, length penalty {length_penalty}".format(**run.values["config"]["decoding"]),
    "versions": lambda run: "Python {python}, jax {jax}".format(**run.values["versions"]),
}
"""Column name -> function that returns the cell: the details of a run."""


if __name__ == "__main__":
    sys.exit(run_command(main))
