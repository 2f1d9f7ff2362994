"""A run that was killed or stopped at any time ends with the same bytes as an uninterrupted run."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from real_runs import (
    INT,
    KILL,
    SMALL_FILES,
    TERM,
    assert_same_run,
    checkpoints,
    count_reports,
    train,
    training,
    wait_for,
    wall_seconds,
)


def is_saving(workdir):
    """Return whether a checkpoint is being written."""
    return any((workdir / "checkpoints").glob("*.unfinished"))


def kill_at_random(recipe, workdir, random, within_save):
    """Start a training and kill it at a random time. Return the seconds of lost work; None if it ended before."""
    before = count_reports(workdir)
    with training(recipe, workdir) as process:
        # At the start, metrics.jsonl is cut back to the last checkpoint. Then it grows.
        wait_for(lambda: count_reports(workdir) < before or count_reports(workdir) > before, process)
        began = time.monotonic()
        if within_save:
            wait_for(lambda: is_saving(workdir), process)
        time.sleep(random.uniform(0, 0.05 if within_save else 0.6))
        ended = process.poll() is not None
        process.kill()
        process.wait()
    ages = [time.time() - (workdir / "checkpoints" / str(step)).stat().st_mtime for step in checkpoints(workdir)]
    return None if ended else min([time.monotonic() - began, *ages])


@pytest.mark.parametrize("kills", [pytest.param(3, id="short"), pytest.param(20, id="long", marks=pytest.mark.faults)])
def test_a_killed_run_ends_with_the_same_bytes(kills, recipe, uninterrupted, tmp_path, record_property):
    random = np.random.default_rng(kills)
    lost, runs = [], 0
    while len(lost) < kills:
        workdir = tmp_path / f"run-{runs}"
        runs += 1
        while len(lost) < kills:
            seconds_lost = kill_at_random(recipe, workdir, random, within_save=len(lost) % 2 == 1)
            if seconds_lost is None:
                break
            lost.append(seconds_lost)
        train(recipe, workdir)
        assert_same_run(workdir, uninterrupted)
        assert not is_saving(workdir)
    record_property(
        "faults",
        f"SIGKILL, every other one while a checkpoint is written | {kills} | {kills} | "
        f"{np.median(lost):.2f} ({max(lost):.2f})",
    )


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(TERM, 143, id="SIGTERM"),
        pytest.param(INT, 130, id="SIGINT", marks=pytest.mark.faults),
    ],
)
def test_a_signal_saves_and_prints_how_to_resume(number, status, recipe, uninterrupted, tmp_path, record_property):
    with training(recipe, tmp_path / "run") as process:
        assert wait_for(lambda: count_reports(tmp_path / "run") > 0, process)
        process.send_signal(number)
        began = time.monotonic()
        output = process.communicate(timeout=60)[0]
        took = time.monotonic() - began
    assert process.returncode == status
    assert "Traceback" not in output
    assert "step 5 of 101, epoch 1.25, loss " in output
    assert "is saved. Run the same command again to resume" in output.splitlines()[-1]
    assert took < 10
    [step] = [int(word) for word in output.splitlines()[-1].split() if word.isdigit()][:1]
    assert checkpoints(tmp_path / "run")[-1] == step
    train(recipe, tmp_path / "run")
    assert_same_run(tmp_path / "run", uninterrupted)
    assert wall_seconds(tmp_path / "run") > 0
    record_property("faults", f"{number.name}, ended after {took:.2f} s | 1 | 1 | 0")


def test_a_second_signal_exits_immediately(recipe, uninterrupted, tmp_path):
    with training(recipe, tmp_path / "run") as process:
        assert wait_for(lambda: count_reports(tmp_path / "run") > 0, process)
        process.send_signal(INT)
        time.sleep(0.05)
        process.send_signal(INT)
        assert process.wait(timeout=5) == 130
    train(recipe, tmp_path / "run")
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_second_run_in_the_same_workdir_is_refused(recipe, uninterrupted, tmp_path):
    with training(recipe, tmp_path / "run") as first:
        assert wait_for(lambda: count_reports(tmp_path / "run") > 0, first)
        first.send_signal(19)  # SIGSTOP keeps a fast run from finishing.
        last = train(recipe, tmp_path / "run", status=2).splitlines()[-1]
        assert last == (
            f"error: {tmp_path / 'run'} is in use by another training run. Wait until that run ends, "
            "or choose another --workdir."
        )
        first.send_signal(KILL)
    train(recipe, tmp_path / "run")
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_file_size_limit_keeps_the_last_checkpoint(recipe, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    stop_after_a_checkpoint(recipe, workdir)
    steps = checkpoints(workdir)
    output = train(recipe, workdir, status=1, wrapper=[sys.executable, "-c", SMALL_FILES])
    # Python may print warnings about orbax after the error.
    [error] = [line for line in output.splitlines() if line.startswith("error: ")]
    assert str(workdir) in error
    assert checkpoints(workdir)[: len(steps)] == steps
    train(recipe, workdir)
    assert_same_run(workdir, uninterrupted)


def stop_after_a_checkpoint(recipe, workdir):
    with training(recipe, workdir) as process:
        assert wait_for(lambda: checkpoints(workdir), process)
        process.send_signal(TERM)
        process.communicate(timeout=60)


@pytest.mark.faults
@pytest.mark.parametrize("kibibytes", [40, 120, 200])
def test_a_full_disk_keeps_the_last_checkpoint(kibibytes, recipe, uninterrupted, tmp_path, record_property):
    workdir = tmp_path / "disk" / "run"
    workdir.parent.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(workdir.parent)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        stop_after_a_checkpoint(recipe, workdir)
        steps = checkpoints(workdir)
        free = shutil.disk_usage(workdir).free
        (workdir.parent / "filler").write_bytes(bytes(max(0, free - kibibytes * 1024)))
        output = train(recipe, workdir, status=1)
        [error] = [line for line in output.splitlines() if line.startswith("error: ")]
        assert str(workdir) in error
        assert set(checkpoints(workdir)) & set(steps)
        (workdir.parent / "filler").unlink()
        train(recipe, workdir)
        assert_same_run(workdir, uninterrupted)
    finally:
        subprocess.run(["umount", str(workdir.parent)], check=True)
    record_property("faults", f"a full disk, {kibibytes} KiB before the end | 1 | 1 | 0")
