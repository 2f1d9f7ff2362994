"""What the benchmarks share: medians with their spread, the machine, a JSON file, and comparison with a stored one."""

from __future__ import annotations

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
from typing import Any, NamedTuple

from transformer_jax.errors import InputError
from transformer_jax.results import hardware

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


def stored(path: Path) -> dict[str, Any]:
    """What a record holds. Raises InputError if it is damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}). Restore the file, or delete it and measure again.") from error
    return found


def report(measured: dict[str, Spread], unit: str, output: Path | None, against: Path | None) -> None:
    """Print a table with the machine, and the change since the run stored in ``against`` if there is one; write
    ``output``.
    """
    stored = json.loads(against.read_text())["measured"] if against else {}
    here = machine()
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    print(f"\n{here['hardware']['processor']}, {here['hardware']['cores']} cores, {here['hardware']['devices']}")
    print(f"Python {here['python']}, {versions}")
    print(f"\n{unit}: median (least to most)")
    for name, value in measured.items():
        change = f"   {value.median / stored[name]['median'] - 1:+.1%} since {against}" if name in stored else ""
        print(f"{name:32} {value}{change}")
    if output:
        values = {name: value._asdict() for name, value in measured.items()}
        output.write_text(json.dumps({"unit": unit, "measured": values, "machine": here}, indent=2) + "\n")
