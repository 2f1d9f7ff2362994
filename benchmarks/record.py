"""What the benchmarks share: medians with their spread, the machine, a JSON file, and comparison with a stored one."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from transformer_jax.config import Config
from transformer_jax.errors import InputError
from transformer_jax.training.results import hardware

PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "ctranslate2", "transformers")


def require(*packages: str) -> None:
    """End with what to install, before anything is measured, if one of the packages is missing."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise SystemExit(f"error: this needs {package}. Run: pip install -r requirements-parity.txt")


Measure = Callable[[], Any]
"""Does its work once and says how fast that was."""

_measure: Measure
"""The one of this process."""


def alternate(systems: Mapping[str, Callable[[], Measure]], repeats: int) -> dict[str, list[Any]]:
    """What each system measured, ``repeats`` times in turn, after one time to compile and to warm up.

    Each is made in a process of its own, so that no idle thread or kept memory of another disturbs it.
    """
    results: dict[str, list[Any]] = {name: [] for name in systems}
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _begin, (make,)))
            for name, make in systems.items()
        }
        for repeat in range(repeats + 1):
            for name, process in processes.items():
                measured = process.submit(_again).result()
                if repeat:
                    results[name].append(measured)
    return results


def _begin(make: Callable[[], Measure]) -> None:
    global _measure
    _measure = make()


def _again() -> Any:
    return _measure()


class Spread(NamedTuple):
    """Several measurements of one thing."""

    median: float
    least: float
    most: float
    repeats: int

    def __str__(self) -> str:
        """Rounded to three digits."""
        return f"{_rounded(self.median)} ({_rounded(self.least)} to {_rounded(self.most)})"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> Spread:
    """Median and range of repeats."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def machine() -> dict[str, Any]:
    """Hardware and versions, for the record."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # A peer that is not measured here.
    return {"hardware": hardware(), "python": platform.python_version(), "versions": versions}


Found = TypeVar("Found")


def stored(path: Path, found: Callable[[Any], Found]) -> Found:
    """What is ``found`` in a record. Raises InputError if it is damaged or lacks that."""
    try:
        return found(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path} is no record of this version ({error!r}). Restore the file, or delete it and measure again."
        ) from error


def in_words(hardware: Mapping[str, Any]) -> str:
    """What a run was made on: the devices, or of a CPU its cores."""
    kinds = sorted(set(hardware["devices"]))
    if kinds == ["cpu"]:
        return f"{hardware['cores']} core{'s' if hardware['cores'] > 1 else ''}, {hardware['processor']}"
    return ", ".join(f"{hardware['devices'].count(kind)} x {kind}" for kind in kinds)


def settings(config: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The settings of a run that is recorded; one that is newer than the run had its default then."""
    return {section: {**values, **config.get(section, {})} for section, values in dataclasses.asdict(Config()).items()}


def compared(output: Path | None, against: Path | None) -> dict[str, Any]:
    """What was measured in ``against``, if it is named. To be called before anything is measured: ends with a message
    if it cannot be read, or ``output`` cannot be written.
    """
    if output and not output.parent.is_dir():
        raise SystemExit(f"error: there is no folder {output.parent} for {output.name}. Make it, or name another file.")
    try:
        return stored(against, lambda record: dict(record["measured"])) if against else {}
    except (OSError, InputError) as error:
        raise SystemExit(f"error: {error}") from None


def report(measured: dict[str, Spread], unit: str, output: Path | None, earlier: Mapping[str, Any]) -> None:
    """Print a table with the machine, and the change since what was ``compared``; write ``output``."""
    here = machine()
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    print(f"\n{here['hardware']['processor']}, {here['hardware']['cores']} cores, {here['hardware']['devices']}")
    print(f"Python {here['python']}, {versions}")
    print(f"\n{unit}: median (least to most)")
    for name, value in measured.items():
        change = f"   {value.median / earlier[name]['median'] - 1:+.1%} since then" if name in earlier else ""
        print(f"{name:32} {value}{change}")
    if output:
        values = {name: value._asdict() for name, value in measured.items()}
        output.write_text(json.dumps({"unit": unit, "measured": values, "machine": here}, indent=2) + "\n")
