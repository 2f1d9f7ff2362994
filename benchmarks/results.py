"""The tables of results in README.md and docs/results/, from recorded runs: python -m benchmarks.results.

A recorded run is the results.json that train.py wrote at its end, kept as benchmarks/results/runs/NAME.json. The README
shows the recipes as they are, docs/results/X.md all runs of those whose names begin with X, and both what several seeds
of a recipe have in the mean. A page may also hold the tables of
``benchmarks/ablation.py`` and ``benchmarks/search_settings.py``.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import ablation, search_settings
from benchmarks.record import in_words, settings
from transformer_jax.commands.cli import parse
from transformer_jax.commands.cli import run as run_command
from transformer_jax.commands.recipe import load_recipe
from transformer_jax.config import Config
from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic

ROOT = Path(__file__).parent.parent
RECORDED = Path("benchmarks/results/runs")
BEGIN = "<!-- results: written by python -m benchmarks.results -->"
END = "<!-- results: end -->"


@dataclass(frozen=True)
class ResultsCommand:
    """Rebuild the tables of results from the recorded runs."""

    add: tuple[Path, ...] = ()
    """Folders of finished runs to record first, each under the folder's name."""
    check: bool = False
    """Write nothing; fail if a table is not what the recorded runs say."""
    debug: bool = False
    """Show the traceback of an error."""


class Recorded(NamedTuple):
    """A run. values: its results.json; changes: option -> value that its recipe, as it now is, needs to repeat it."""

    name: str
    values: dict[str, Any]
    changes: dict[str, str]

    @property
    def recipe(self) -> str:
        """The name of what it followed."""
        return self.values["recipe"]

    @property
    def command(self) -> str:
        """What trains it."""
        recipe = self.recipe
        folder = [] if self.name == recipe else ["--workdir", f"runs/{self.name}"]
        which = [] if recipe == "phrasebook" else ["--config", f"configs/{recipe}.py"]
        options = itertools.chain.from_iterable(self.changes.items())
        return shlex.join(["python", "train.py", *which, *folder, *options])


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Record runs, and write or check every table. root: the checkout that holds them."""
    command = parse(ResultsCommand(), arguments, "-m benchmarks.results")
    if command.add and command.check:
        raise InputError("--check writes nothing. Give it without --add.")
    for folder in command.add:
        record(folder, root)
    runs = sorted(read(path, root) for path in (root / RECORDED).glob("*.json"))
    stale = []
    pages = [
        path for path in sorted((root / "docs/results").glob("*.md")) if any(root.glob(f"configs/{path.stem}*.py"))
    ]
    for document in [root / "README.md", *pages]:
        text = document.read_text(encoding="utf-8")
        rebuilt = replaced(text, BEGIN, END, tables(document, runs, root), document)
        for begin, end, more in (
            (ablation.BEGIN, ablation.END, ablation.table(root)),
            (search_settings.BEGIN, search_settings.END, search_settings.tables(root, document.stem)),
        ):
            if begin in text:
                rebuilt = replaced(rebuilt, begin, end, more, document)
        if rebuilt != text:
            stale.append(str(document.relative_to(root)))
            if not command.check:
                atomic.write_text(document, rebuilt)
    if command.check and stale:
        raise RunError(
            f"{', '.join(stale)}: the tables are not what the recorded runs say. Run: python -m benchmarks.results"
        )
    print(f"{len(runs)} recorded runs; {', '.join(stale) or 'nothing'} changed")


def record(folder: Path, root: Path) -> None:
    """Keep a copy of a run's results. Raises InputError if the run is not finished."""
    results = folder / "results.json"
    if not results.is_file():
        raise InputError(f"{folder} holds no results.json, so no finished run. Let train.py finish there.")
    found = read(results, root)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if {name: part for name, part in settings.items() if name != "format"} != found.values["config"]:
        raise InputError(f"{results} is older than the run, which has gone on. Let train.py finish in {folder}.")
    (root / RECORDED).mkdir(parents=True, exist_ok=True)
    atomic.write_text(root / RECORDED / f"{folder.resolve().name}.json", results.read_text(encoding="utf-8"))


def read(path: Path, root: Path) -> Recorded:
    """A run from its results. Raises InputError if they lack anything that a table shows, or name an unknown recipe."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["recipe"] is None:
            raise InputError(f"{path} is of no recipe, so no command repeats it. Train with train.py.")
        recipe = root / "configs" / f"{values['recipe']}.py"
        if not recipe.is_file():
            raise InputError(f"{path} is of the recipe {recipe.stem}, which configs/ lacks. Put {recipe.name} there.")
        found = Recorded(path.stem, values, changes(values["config"], load_recipe(recipe)))
        for column in (*SUMMARY.values(), *DETAILS.values(), signatures_of):
            column(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not the results.json of a run of this version ({error!r}). Train again, or restore the file."
        ) from error
    return found


def changes(config: Mapping[str, Mapping[str, Any]], recipe: Config) -> dict[str, str]:
    """The options that make the recipe's settings those of a run; of a setting that is newer than the run, the default.

    Raises KeyError for a setting that is gone, without which the run cannot be repeated.
    """
    now = dataclasses.asdict(recipe)
    return {
        f"--{section}.{name.replace('_', '-')}": str(value)
        for section, values in settings(config).items()
        for name, value in values.items()
        if value != now[section][name]
    }


def tables(document: Path, runs: Sequence[Recorded], root: Path) -> str:
    """What stands between the markers of a document."""
    is_readme = document.parent == root
    if is_readme:
        of_page = [run for run in runs if run.changes.keys() <= OTHER_TEXT | NO_OTHER_RESULT]
        shown = [run for run in of_page if run.changes.keys() <= OTHER_TEXT]
    else:
        of_page = shown = [run for run in runs if run.recipe.startswith(document.stem)]
    if not shown:
        return "No run is recorded yet.\n"
    link = os.path.relpath(root / RECORDED, document.parent)
    names = {run.name: f"[{run.name}]({link}/{run.name}.json)" for run in shown}
    parts = [table(SUMMARY, shown, names)]
    if not is_readme:
        parts.append(table(DETAILS, shown, names))
    commands = "".join(f"{run.command}\n" for run in shown)
    parts.append(f"```bash\n{commands}```\n")
    signatures: dict[str, list[str]] = {}
    for run in shown:
        for signature in signatures_of(run):
            signatures.setdefault(signature, []).append(run.name)
    notes = [*over_seeds(of_page), *(f"{signature}: {', '.join(of)}" for signature, of in signatures.items())]
    parts.append("".join(f"- {note}\n" for note in notes))
    return "\n".join(parts)


OTHER_TEXT = {f"--data.{name}" for name in ("train", "valid", "test", "source", "target")}
"""Options with which a recipe is as it is."""

NO_OTHER_RESULT = {"--training.seed", "--training.save-every", "--training.log-every"}
"""Options with which a run is still a run of its recipe."""


def over_seeds(runs: Sequence[Recorded]) -> Iterator[str]:
    """Of what one machine has run with several seeds and nothing else changed: every score's mean and range."""
    seeds: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for run in runs:
        options = (part for change in run.changes.items() if change[0] not in NO_OTHER_RESULT for part in change)
        what = shlex.join([run.recipe, *options])
        seeds.setdefault((what, _hardware(run)), {})[DETAILS["seed"](run)] = run.values["scores"]
    for (what, hardware), scores in seeds.items():
        if len(scores) > 1:
            found = {name: [of[name]["value"] for of in scores.values()] for name in next(iter(scores.values()))}
            figures = (
                f"{name} {statistics.fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
                for name, values in found.items()
            )
            yield f"{what}, {len(scores)} seeds, {hardware}: {', '.join(figures)}"


def signatures_of(run: Recorded) -> list[str]:
    """Each metric with its signature."""
    return [f"{name} `{score['signature']}`" for name, score in run.values["scores"].items()]


def table(columns: Mapping[str, Callable[[Recorded], str]], runs: Sequence[Recorded], names: Mapping[str, str]) -> str:
    """One row for each run, beginning with its name."""
    rows = [["run", *columns], ["---"] * (1 + len(columns))]
    rows += [[names[run.name], *(cell(run) for cell in columns.values())] for run in runs]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def replaced(text: str, begin: str, end: str, content: str, document: Path) -> str:
    """The text with new content between two lines. Raises InputError if they are not there, once and in order."""
    before, *after = text.split(f"{begin}\n")
    _, *rest = after[0].split(f"{end}\n") if len(after) == 1 else ("",)
    if len(rest) != 1:
        raise InputError(f"{document} must hold the line {begin} once and after it the line {end}. Put them back.")
    return f"{before}{begin}\n{content}{end}\n{rest[0]}"


def _score(name: str) -> Callable[[Recorded], str]:
    return lambda run: f"{run.values['scores'][name]['value']:.2f}" if name in run.values["scores"] else ""


def _data(run: Recorded) -> str:
    data = run.values["config"]["data"]
    path = Path(data["test"])
    name = path.name.partition(".{lang}")[0] if "{lang}" in path.name else "/".join(path.parts[-2:])
    case = ", lower-cased" if "case:lc" in run.values["scores"]["BLEU"]["signature"] else ""
    overlap = run.values["overlap"]
    size = f", {overlap['sentences']:,} sentences" if overlap else ""
    return f"{name}, {data['source']}-{data['target']}{size}{case}"


def _wall_time(run: Recorded) -> str:
    minutes = run.values["wall_seconds"] / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _hardware(run: Recorded) -> str:
    return in_words(run.values["hardware"])


def _speed(run: Recorded) -> str:
    speed = run.values["target_tokens_per_second"]
    return "" if speed is None else f"{speed:,.0f}"  # None: the run ended before its first report.


def _overlap(run: Recorded) -> str:
    overlap = run.values["overlap"]
    if overlap is None:
        return "not known"  # The training text was gone when the run went on.
    return f"{overlap['sources']:,}, {overlap['pairs']:,} with the same translation"


SUMMARY: dict[str, Callable[[Recorded], str]] = {
    "test set": _data,
    "parameters": lambda run: f"{run.values['parameters'] / 1e6:.1f} M",
    "sacreBLEU": _score("BLEU"),
    "chrF": _score("chrF"),
    "tokenised BLEU": _score("BLEU-tokenized"),
    "wall time": _wall_time,
    "hardware": _hardware,
}
"""Column -> cell: what a reader wants to know first."""

DETAILS: dict[str, Callable[[Recorded], str]] = {
    "training pairs": lambda run: f"{run.values['training_pairs']:,}",
    "test sentences in them": _overlap,
    "updates": lambda run: f"{run.values['config']['training']['steps']:,}",
    "best after": lambda run: f"{run.values['best_step']:,}",
    "greedy sacreBLEU on validation": lambda run: ", ".join(
        f"{valid['bleu']:.1f}" for valid in run.values.get("validations", [])
    ),
    "target tokens/s": _speed,
    "seed": lambda run: str(run.values["config"]["training"]["seed"]),
    "beam": lambda run: "{beam}, length penalty {length_penalty}".format(**run.values["config"]["decoding"]),
    "versions": lambda run: "Python {python}, jax {jax}".format(**run.values["versions"]),
}
"""Column -> cell: what whoever repeats the run wants to know."""


if __name__ == "__main__":
    sys.exit(run_command(main))
