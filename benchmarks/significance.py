"""Significance of the differences between recorded runs.

The translations of the test set are kept next to the record of a run, in NAME.hyp.txt.gz. The test set is not, because
its license may not allow it. Therefore the p-values are computed when a run is recorded, and stored in its record:

    "significance": {"against": NAME, "translations": SHA-256, METRIC: {"bootstrap": p, "randomization": p}, ...}
"""

from __future__ import annotations

import gzip
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import read_record
from transformer_jax.comparison.scored_runs import ScoredRun, read_scored_run
from transformer_jax.comparison.significance import compare_systems
from transformer_jax.errors import InputError
from transformer_jax.evaluation import HYPOTHESES_FILE, make_metrics
from transformer_jax.storage import atomic

COLUMN = "p (bootstrap, randomization)"
NOT_TESTED = "not tested"


def record_translations(workdir: Path, record: Path, baseline: Path) -> dict[str, Any]:
    """Keep the translations of a run next to its record, and return fields for the record.

    ``test_set`` is a checksum of the test set. ``significance`` is missing for the baseline itself, and if the baseline
    has no translations of this test set.

    record, baseline: paths of two records, which may not exist yet.
    Raises InputError if a file is damaged. Logs a warning if the run is of a version that wrote no translations.
    """
    if not (workdir / HYPOTHESES_FILE).exists():
        _translations_path(record).unlink(missing_ok=True)
        logging.warning(f"{workdir} has no {HYPOTHESES_FILE}, so it is {NOT_TESTED}. Run its train command again.")
        return {}
    run = read_scored_run(workdir)
    significance = {} if record == baseline else _test(run, baseline)
    record.parent.mkdir(parents=True, exist_ok=True)
    path = _translations_path(record)
    with atomic.new_file(path, atomic.partial_path(path), "bytes") as file:
        text = "".join(f"{line}\n" for line in run.hypotheses)
        file.write(gzip.compress(text.encode(), mtime=0))  # The same translations give the same bytes.
    return {"test_set": run.test_set_checksum, **significance}


def describe_significance(record: Mapping[str, Any], directory: Path, metric: str) -> str:
    """Return the p-values of a record by one metric, or NOT_TESTED.

    Without its baseline's present translations, a run is not tested.

    directory: the directory of the records.
    """
    tested = record.get("significance")
    if (
        tested is None
        or _checksum(_translations_path(directory / f"{tested['against']}.json")) != tested["translations"]
    ):
        return NOT_TESTED
    return f"{tested[metric]['bootstrap']:.4f}, {tested[metric]['randomization']:.4f}"


def _test(run: ScoredRun, baseline: Path) -> dict[str, Any]:
    """Return the field ``significance`` of a run, or nothing if the baseline has no translations of its test set."""
    path = _translations_path(baseline)
    if not baseline.exists() or not path.exists():
        return {}
    if read_record(baseline, lambda record: record.get("test_set")) != run.test_set_checksum:
        return {}
    try:
        hypotheses = gzip.decompress(path.read_bytes()).decode().removesuffix("\n").split("\n")
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}). Restore the file, or record {baseline.stem} again.") from error
    metrics = make_metrics(run.references, run.language, run.tokenize)
    scores = compare_systems(metrics, run.references, [hypotheses, run.hypotheses])
    p_values = {
        name: {"bootstrap": score.bootstrap, "randomization": score.randomization}
        for name, (_, score) in scores.items()
    }
    return {"significance": {"against": baseline.stem, "translations": _checksum(path), **p_values}}


def _translations_path(record: Path) -> Path:
    return record.with_name(f"{record.stem}.hyp.txt.gz")


def _checksum(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
