"""Comparison of facts, such as settings or checksums, between the processes of a distributed run.

Processes that compute with different settings, code or data would wait for each other without end, or train a model
that no one asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from jax._src import distributed  # JAX has no public API for its coordination service.

from transformer_jax.errors import InputError, RunError

FACTS_KEY = "transformer_jax/facts/"
"""Key prefix for the facts of a process, followed by the stage and the process ID."""
VERDICT_KEY = "transformer_jax/verdict/"
"""Key prefix for the differences that process 0 found, followed by the stage."""
WAIT_SECONDS = 60.0
"""Time in which all processes must send their facts, unless the caller sets another limit."""
POLL_SECONDS = 0.1
MAX_DIFFERENCES = 5
"""Number of differences that a message lists."""
MAX_VALUE_LENGTH = 80
"""Number of characters of a value that a message shows."""


def require_agreement(stage: str, facts: Mapping[str, str], seconds: float = WAIT_SECONDS) -> None:
    """Raise InputError, on every process of the run, if the facts of the processes differ.

    No device is used. A single process returns immediately. A process that fails before it sends its facts ends the
    other processes (see ``distributed_run``).
    Raises RunError if a process does not send its facts in time.

    stage: what the facts describe, in the plural, such as "settings". Each stage is compared once per run.
    facts: name of each fact -> its value.
    seconds: maximum time between the calls of two processes; ``math.inf`` if the work before the call has no limit.
        A killed process still ends the wait, since JAX misses its heartbeat. A process that hangs does not.
    """
    client: Any = distributed.global_state.client
    if client is None:
        return
    process, processes = distributed.global_state.process_id, distributed.global_state.num_processes
    client.key_value_set(f"{FACTS_KEY}{stage}/{process}", json.dumps(dict(facts)))
    if process == 0:
        entries = _wait_for_entries(client, f"{FACTS_KEY}{stage}/", processes, seconds)
        by_process = {int(key.rpartition("/")[2]): json.loads(value) for key, value in entries}
        if missing := sorted({*range(processes)} - by_process.keys()):
            raise _no_answer(missing, stage, seconds)
        client.key_value_set(f"{VERDICT_KEY}{stage}/0", describe_differences(by_process))
    # Process 0 may be the last to call, and then waits for others.
    verdicts = _wait_for_entries(client, f"{VERDICT_KEY}{stage}/", 1, 2 * seconds)
    if not verdicts:
        raise _no_answer([0], stage, 2 * seconds)
    [(_, differences)] = verdicts
    if differences:
        raise InputError(
            f"the {stage} of the processes differ: {differences}. Make them the same on all hosts, then start all "
            "processes again."
        )


def _wait_for_entries(client: Any, prefix: str, count: int, seconds: float) -> list[tuple[str, str]]:
    """Return the keys with this prefix and their values, as soon as there are ``count`` or the time is over."""
    deadline = time.monotonic() + seconds
    while len(entries := client.key_value_dir_get(prefix)) < count and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return entries


def _no_answer(processes: list[int], stage: str, seconds: float) -> RunError:
    return RunError(
        f"{format_processes(processes)} not sent the {stage} to compare within {seconds:g} s. Read the messages "
        "there, then start all processes again."
    )


def describe_differences(facts: Mapping[int, Mapping[str, str]]) -> str:
    """Return the differences between the processes in one line; an empty string if there are none.

    facts: process ID -> name of each fact -> its value.
    """
    names = dict.fromkeys(name for process in sorted(facts) for name in facts[process])
    differences = []
    for name in names:
        groups: dict[str, list[int]] = {}  # Value -> IDs of the processes that have it.
        for process in sorted(facts):
            groups.setdefault(facts[process].get(name, "nothing"), []).append(process)
        if len(groups) > 1:
            # The group of process 0 comes last in the message, since the others are compared with it.
            (reference_value, reference), *others = groups.items()
            subjects = [f"{format_processes(ids)} {name} {_shorten(value)}" for value, ids in others]
            differences.append(", ".join([*subjects, f"{format_processes(reference)} {_shorten(reference_value)}"]))
    if len(differences) > MAX_DIFFERENCES:
        differences[MAX_DIFFERENCES:] = [f"{len(differences) - MAX_DIFFERENCES} other differences"]
    return "; ".join(differences)


def format_processes(processes: list[int]) -> str:
    """Return "process 1 has" or "processes 1, 2 and 3 have". Of many processes, only the first five are listed."""
    if len(processes) == 1:
        return f"process {processes[0]} has"
    listed = [*map(str, processes)] if len(processes) <= 6 else [*map(str, processes[:5]), f"{len(processes) - 5} more"]
    return f"processes {', '.join(listed[:-1])} and {listed[-1]} have"


def _shorten(value: str) -> str:
    return value if len(value) <= MAX_VALUE_LENGTH else f"{value[:MAX_VALUE_LENGTH]}..."
