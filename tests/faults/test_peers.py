"""The processes of a distributed run stop together, and none waits for a process that failed."""

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest
from real_runs import KILL, ROOT, SMALL_FILES, TERM, assert_same_run, checkpoints, count_reports, training, wait_for
from simulated_devices import simulate_devices


def two_environments():
    """Return the environment variables with which two processes connect."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2"}
    return [{**shared, "JAX_PROCESS_ID": str(number)} for number in range(2)]


@contextmanager
def distributed_training(recipe, workdir, options=((), ()), wrappers=((), ()), variables=({}, {})):
    """Start a training of two processes with one device each.

    options, wrappers: arguments of ``training`` for each process.
    variables: other environment variables of each process.
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                training(
                    recipe,
                    workdir,
                    "--distributed",
                    *options[number],
                    wrapper=wrappers[number],
                    env=simulate_devices(1) | environment | variables[number],
                )
            )
            for number, environment in enumerate(two_environments())
        ]


def train_together(recipe, workdir):
    with distributed_training(recipe, workdir) as processes:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs


@pytest.fixture(scope="module")
def uninterrupted(recipe):
    train_together(recipe, recipe.parent / "uninterrupted")
    return recipe.parent / "uninterrupted"


@pytest.mark.faults
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_and_the_run_resumes(victim, recipe, uninterrupted, tmp_path, record_property):
    workdir = tmp_path / "run"
    with distributed_training(recipe, workdir) as processes:
        assert wait_for(lambda: checkpoints(workdir), processes[0])
        processes[victim].send_signal(KILL)
        began = time.monotonic()
        output = processes[1 - victim].communicate(timeout=120)[0]
        took = time.monotonic() - began
    assert processes[1 - victim].returncode not in (0, None)
    # JAX prints the second message if the coordinator, process 0, is lost.
    assert "error: lost another process of the run" in output or "another task died" in output, output
    train_together(recipe, workdir)
    assert_same_run(workdir, uninterrupted)
    record_property("faults", f"process {victim} of 2 killed, the other ended after {took:.1f} s | 1 | 1 | -")


@pytest.mark.parametrize("wrong", [1, pytest.param(0, marks=pytest.mark.faults)])
def test_bad_input_in_one_process_ends_both(wrong, recipe, tmp_path):
    options = [(), ()]
    options[wrong] = ("--data.test", str(tmp_path / "missing.tsv"))
    with distributed_training(recipe, tmp_path / "run", options) as processes:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [2 if number == wrong else 1 for number in range(2)]
    assert f"error: {tmp_path}/missing.tsv does not exist" in outputs[wrong]
    assert f"error: process {wrong} of the run failed: {tmp_path}/missing.tsv" in outputs[1 - wrong]


def end_by_differences(recipe, tmp_path, options=(), **variables):
    """Train with two processes, assert that both end with status 2, and return the error, which must be the same.

    options, variables: options and environment variables of process 1.
    """
    with distributed_training(recipe, tmp_path / "run", ((), options), variables=({}, variables)) as processes:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], outputs
    errors = [line for output in outputs for line in output.splitlines() if line.startswith("error: ")]
    assert errors[1:] == errors[:1], outputs
    assert not (tmp_path / "run").exists()
    return errors[0]


def test_different_settings_and_versions_end_both(recipe, tmp_path):
    (tmp_path / "flax-0.0.1.dist-info").mkdir()
    (tmp_path / "flax-0.0.1.dist-info/METADATA").write_text("Name: flax\nVersion: 0.0.1\n")
    options = ("--training.seed", "2", "--training.steps", "102", "--data.train", str(recipe.parent / "other.tsv"))
    error = end_by_differences(recipe, tmp_path, options, PYTHONPATH=str(tmp_path))
    assert error.startswith("error: the settings and software of the processes differ: ")
    assert "process 1 has training.seed 2, process 0 has 0" in error
    assert "process 1 has training.steps 102, process 0 has 101" in error
    assert "process 1 has flax 0.0.1, process 0 has " in error
    assert error.count("process 1 has") == 3


def test_different_data_ends_both(recipe, tmp_path):
    lines = (recipe.parent / "pairs.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "other.tsv").write_text("".join(lines[1:]))
    error = end_by_differences(recipe, tmp_path, ("--data.train", str(tmp_path / "other.tsv")))
    assert re.match(
        r"error: the data of the processes differ: process 1 has training text \d+ pairs, checksums ", error
    )


LATE = """
import os, sys, time
from transformer_jax.commands.cli import run_command
from transformer_jax.errors import RunError
from transformer_jax.runtime.distributed import distributed_run

def main(arguments):
    with distributed_run():
        if os.environ["JAX_PROCESS_ID"] == sys.argv[1]:
            time.sleep(2)
            raise RunError("writing the last line failed")

sys.exit(run_command(main, ["--distributed"]))
"""


@pytest.mark.parametrize("late", [1, pytest.param(0, marks=pytest.mark.faults)])
def test_a_late_failure_of_one_process_ends_both(late):
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", LATE, str(late)],
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                )
            )
            for environment in two_environments()
        ]
        outputs = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], outputs
    assert "error: writing the last line failed" in outputs[late]
    assert f"error: process {late} of the run failed: writing the last line failed" in outputs[1 - late]


@pytest.mark.faults
def test_a_full_disk_of_one_process_ends_both(recipe, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    with distributed_training(recipe, workdir, wrappers=((sys.executable, "-c", SMALL_FILES), ())) as processes:
        began = time.monotonic()
        outputs = [process.communicate(timeout=90)[0] for process in processes]
        assert time.monotonic() - began < 60
    assert [process.returncode for process in processes] == [1, 1], outputs
    [error] = [line for line in outputs[0].splitlines() if line.startswith("error: ")]
    assert str(workdir) in error
    assert "error: process 0 of the run failed: " in outputs[1]
    train_together(recipe, workdir)
    assert_same_run(workdir, uninterrupted)


@pytest.mark.faults
def test_a_signal_during_the_final_scoring_ends_both(recipe, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    with distributed_training(recipe, workdir) as processes:
        assert wait_for(lambda: checkpoints(workdir)[-1:] == [101], processes[0])
        time.sleep(0.5)
        assert not (workdir / "results.json").exists()
        for process in processes:
            process.send_signal(TERM)
        began = time.monotonic()
        outputs = [process.communicate(timeout=60)[0] for process in processes]
        assert time.monotonic() - began < 15
    assert all(process.returncode not in (0, None) for process in processes), outputs
    assert not (workdir / "results.json").exists()
    train_together(recipe, workdir)
    assert (workdir / "results.json").exists()
    assert_same_run(workdir, uninterrupted)


@pytest.mark.faults
@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_process_stops_both_at_the_same_step(told, recipe, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    with distributed_training(recipe, workdir) as processes:
        assert wait_for(lambda: count_reports(workdir) > 0, processes[0])
        processes[told].send_signal(TERM)
        began = time.monotonic()
        outputs = [process.communicate(timeout=60)[0] for process in processes]
        assert time.monotonic() - began < 15
    assert [process.returncode for process in processes] == [143, 143], outputs
    last_lines = [
        next(line for line in output.splitlines() if "is saved. Run the same command" in line) for output in outputs
    ]
    assert last_lines[0] == last_lines[1]
    train_together(recipe, workdir)
    assert_same_run(workdir, uninterrupted)


@pytest.mark.faults
def test_a_second_run_is_refused_in_all_its_processes(recipe, uninterrupted, tmp_path):
    with training(recipe, tmp_path / "run") as first:
        assert wait_for(lambda: count_reports(tmp_path / "run") > 0, first)
        first.send_signal(19)
        with distributed_training(recipe, tmp_path / "run") as processes:
            outputs = [process.communicate(timeout=60)[0] for process in processes]
        assert [process.returncode for process in processes] == [2, 2], outputs
        assert "is in use by another training" in outputs[0]
        assert "process 0 cannot use" in outputs[1]
