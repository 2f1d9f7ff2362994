"""Shared functions of the benchmarks: repeated measurements, JSON records and comparison with earlier records."""

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
from transformer_jax.storage import atomic
from transformer_jax.training.environment import hardware

PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "ctranslate2", "transformers")


def require_packages(*packages: str) -> None:
    """Exit with an error that names the install command if a package is missing."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise SystemExit(f"error: {package} is not installed. Run: pip install -r requirements-parity.txt")


MeasureOnce = Callable[[], Any]
"""Function that runs the workload once and returns the measurement."""

_measure_once: MeasureOnce
"""The workload of this worker process."""


def measure_in_turn(systems: Mapping[str, Callable[[], MeasureOnce]], repeats: int) -> dict[str, list[Any]]:
    """Measure each system ``repeats`` times, alternating between systems, and return system name -> measurements.

    An additional first measurement, which includes compilation, is discarded. Each system runs in its own process, so
    that the idle threads and the memory of one system do not slow down another.
    """
    results: dict[str, list[Any]] = {name: [] for name in systems}
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _start_system, (make,)))
            for name, make in systems.items()
        }
        for repeat in range(repeats + 1):
            for name, process in processes.items():
                measurement = process.submit(_measure_again).result()
                if repeat:
                    results[name].append(measurement)
    return results


def _start_system(make: Callable[[], MeasureOnce]) -> None:
    global _measure_once
    _measure_once = make()


def _measure_again() -> Any:
    return _measure_once()


class Spread(NamedTuple):
    """Median, minimum and maximum of repeated measurements."""

    median: float
    least: float
    most: float
    repeats: int

    def __str__(self) -> str:
        """Format the median and the range with three significant digits, or as integers from 100."""
        return f"{_rounded(self.median)} ({_rounded(self.least)} to {_rounded(self.most)})"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread_of(values: Sequence[float]) -> Spread:
    """Return the median and the range of the values."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def machine() -> dict[str, Any]:
    """Return the hardware and the software versions of this machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # Not every benchmark needs every package.
    return {"hardware": hardware(), "python": platform.python_version(), "versions": versions}


Extracted = TypeVar("Extracted")


def read_record(path: Path, extract: Callable[[Any], Extracted]) -> Extracted:
    """Read a JSON record and return ``extract(record)``.

    Raises InputError if the record is damaged or incomplete.
    """
    try:
        return extract(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path} is damaged or has an old format ({error!r}). Restore the file, or delete it and measure again."
        ) from error


def describe_hardware(hardware: Mapping[str, Any]) -> str:
    """Return a description of the accelerators of a run, or of its CPU cores if it used none."""
    kinds = sorted(set(hardware["devices"]))
    if kinds == ["cpu"]:
        return f"{hardware['cores']} core{'s' if hardware['cores'] > 1 else ''}, {hardware['processor']}"
    return ", ".join(f"{hardware['devices'].count(kind)} x {kind}" for kind in kinds)


def with_defaults(config: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a recorded config, with default values for the fields that it lacks."""
    return {section: {**values, **config.get(section, {})} for section, values in dataclasses.asdict(Config()).items()}


def read_baseline(output: Path | None, against: Path | None) -> dict[str, Any]:
    """Return the measurements in the file ``against``, or an empty dict if it is None.

    Call this function before measuring: it exits with an error if ``against`` is unreadable or the directory of
    ``output`` does not exist.
    """
    if output and not output.parent.is_dir():
        raise SystemExit(f"error: the directory {output.parent} does not exist. Run: mkdir -p {output.parent}")
    try:
        return read_record(against, lambda record: dict(record["measured"])) if against else {}
    except (OSError, InputError) as error:
        raise SystemExit(f"error: {error}") from None


def report(measured: dict[str, Spread], unit: str, output: Path | None, baseline: Mapping[str, Any]) -> None:
    """Print the measurements and their change since the baseline. Write a record to ``output``, if given."""
    this_machine = machine()
    hardware = this_machine["hardware"]
    versions = ", ".join(f"{name} {version}" for name, version in this_machine["versions"].items())
    print(f"\n{hardware['processor']}, {hardware['cores']} cores, {hardware['devices']}")
    print(f"Python {this_machine['python']}, {versions}")
    print(f"\n{unit}: median (minimum to maximum)")
    for name, value in measured.items():
        change = f"   {value.median / baseline[name]['median'] - 1:+.1%} since the baseline" if name in baseline else ""
        print(f"{name:32} {value}{change}")
    write_record(measured, unit, output)


def write_record(measured: Mapping[str, Spread], unit: str, output: Path | None) -> None:
    """Write the measurements and a description of this machine to ``output``, if given."""
    if output:
        values = {name: value._asdict() for name, value in measured.items()}
        record = {"unit": unit, "measured": values, "machine": machine()}
        atomic.write_text(output, json.dumps(record, indent=2) + "\n")
