"""Facts that differ between the processes of a run are named, with the processes."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from transformer_jax.errors import InputError, RunError
from transformer_jax.runtime import agreement
from transformer_jax.runtime.agreement import describe_differences, require_agreement


class KeyValueStore:
    """A coordination service within this process."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value):
        assert key not in self.values
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in list(self.values.items()) if key.startswith(prefix)]


@pytest.fixture
def compare(monkeypatch):
    """Compare the facts of several processes, each in its own thread, and return what each raises."""
    local = threading.local()
    monkeypatch.setattr(agreement, "distributed", SimpleNamespace(global_state=local))
    monkeypatch.setattr(agreement, "POLL_SECONDS", 0.001)

    def call(*facts, processes=None, delays=None, seconds=60.0):
        store = KeyValueStore()

        def run(process):
            local.client, local.process_id, local.num_processes = store, process, processes or len(facts)
            time.sleep(delays[process] if delays else 0)
            try:
                return require_agreement("settings", facts[process], seconds)
            except (InputError, RunError) as error:
                return error

        with ThreadPoolExecutor(len(facts)) as threads:
            return list(threads.map(run, range(len(facts))))

    return call


def test_equal_facts_are_accepted(compare):
    assert compare({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1", "b": "2"}) == [None] * 3


def test_different_fact_is_refused_by_all(compare):
    errors = compare({"training.seed": "1"}, {"training.seed": "2"})
    assert [type(error) for error in errors] == [InputError] * 2
    for error in errors:
        assert str(error) == (
            "the settings of the processes differ: process 1 has training.seed 2, process 0 has 1. Make them the same "
            "on all hosts, then start all processes again."
        )


def test_process_that_does_not_answer_is_named(compare):
    errors = compare({"a": "1"}, {"a": "1"}, processes=4, seconds=0.05)
    assert [type(error) for error in errors] == [RunError] * 2
    assert str(errors[0]).startswith("processes 2 and 3 have not sent the settings to compare within 0.05 s")
    assert str(errors[1]).startswith("process 0 has not sent the settings to compare within 0.1 s")


@pytest.mark.parametrize("slow", [0, 1])
def test_a_slow_process_is_refused_only_with_a_time_limit(slow, compare):
    facts, delays = [{"a": "1"}] * 2, [0.5 * (process == slow) for process in range(2)]
    assert any(compare(*facts, delays=delays, seconds=0.05))
    assert compare(*facts, delays=delays, seconds=math.inf) == [None, None]


def test_single_process_compares_nothing():
    require_agreement("settings", {"a": "1"})


@pytest.mark.parametrize(
    ("values", "description"),
    [
        ("112", "process 2 has x 2, processes 0 and 1 have 1"),
        ("1221", "processes 1 and 2 have x 2, processes 0 and 3 have 1"),
        ("123", "process 1 has x 2, process 2 has x 3, process 0 has 1"),
        ("1" + 8 * "2", "processes 1, 2, 3, 4, 5 and 3 more have x 2, process 0 has 1"),
        ("11", ""),
    ],
)
def test_processes_are_grouped_by_value(values, description):
    assert describe_differences({process: {"x": value} for process, value in enumerate(values)}) == description


def test_missing_fact_is_named():
    assert describe_differences({0: {"a": "1"}, 1: {}}) == "process 1 has a nothing, process 0 has 1"


def test_message_is_short():
    facts = {process: {f"fact {number}": str(process) * 1000 for number in range(50)} for process in range(2)}
    description = describe_differences(facts)
    assert len(description) < 1200
    assert description.endswith("; 45 other differences")
