"""A lost machine is replaced by one that resumes from the mirror, and a failing store does not stop a training."""

import json
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from object_stores import BUCKET, gcs_port, proxy_to, s3_port, s3_variables, store, variables  # noqa: F401
from real_runs import (
    KILL,
    TERM,
    assert_same_run,
    checkpoint_contents,
    checkpoints,
    metrics,
    train,
    training,
    wait_for,
)
from simulated_devices import simulate_devices

from transformer_jax.mirror.opening import open_mirror

QUICK = """
import runpy, sys
from transformer_jax.mirror import lease, uploader
lease.RENEWAL_SECONDS, lease.EXPIRY_SECONDS, uploader.POLL_SECONDS = 0.5, 4.0, 0.05
sys.argv = sys.argv[2:]
sys.path.insert(0, "")
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs train.py with short times, so that a small training uploads several checkpoints."""


@pytest.fixture
def machines(monkeypatch):
    """The options of ``training`` for machines with short times."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", str(16 << 30))  # Otherwise train.py would start the program again.
    return {"wrapper": [sys.executable, "-c", QUICK]}


def last_reported_step(workdir):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return max((json.loads(line)["step"] for line in lines), default=0)


def newest_in(url):
    return max(open_mirror(url).sealed_steps(), default=0)


def is_uploading(workdir):
    return any((workdir / ".upload.unfinished").glob("*"))


def assert_same_end(workdir, expected):
    """Assert that a run ended as another one. The last but one checkpoint may have stayed on a lost machine."""
    for name in ("samples.jsonl", "valid.hyp.txt", "test.hyp.txt", "curves.png"):
        assert (workdir / name).read_bytes() == (expected / name).read_bytes(), name
    assert metrics(workdir) == metrics(expected)
    contents, expected_contents = checkpoint_contents(workdir), checkpoint_contents(expected)
    assert {*contents} <= {*expected_contents}
    assert max(contents) == max(expected_contents)
    for step, (progress, state) in contents.items():
        assert progress == expected_contents[step][0]
        jax.tree.map(np.testing.assert_array_equal, state, expected_contents[step][1])


def kill_machine(recipe, workdir, url, random, within_upload, machines):
    """Start a training on a new machine, and kill it at a random time.

    Return the lost updates and seconds, or None if the training ended before. Assert that it resumed at the newest
    checkpoint of the mirror.
    """
    newest = newest_in(url)
    with training(recipe, workdir, "--mirror", url, **machines) as process:
        wait_for(lambda: last_reported_step(workdir) > newest, process, seconds=400)
        began = time.time()
        if within_upload:
            wait_for(lambda: is_uploading(workdir), process, seconds=400)
        time.sleep(random.uniform(0, 0.1 if within_upload else 2.0))
        ended = process.poll() is not None
        process.send_signal(KILL)
        process.wait()
        killed = time.time()
        output = process.stdout.read()
    assert "Traceback" not in output, output
    assert not newest or f"is filled from {url} at step {newest}." in output, output
    if ended:
        return None
    saved = newest_in(url)
    seal = workdir / "checkpoints" / str(saved) / "checksums.json"
    since = max(began, seal.stat().st_mtime) if seal.exists() else began
    return max(0, last_reported_step(workdir) - saved), max(0.0, killed - since)


@pytest.mark.parametrize("kills", [pytest.param(2, id="short"), pytest.param(20, id="long", marks=pytest.mark.faults)])
def test_lost_machines_are_replaced_with_the_same_end(
    kills,
    recipe,
    uninterrupted,
    tmp_path,
    machines,
    record_property,
    s3_port,  # noqa: F811
):
    random = np.random.default_rng(kills)
    lost, starts, runs = [], 0, 0
    with variables(s3_variables(s3_port)):
        while len(lost) < kills:
            runs += 1
            url = f"s3://{BUCKET}/{tmp_path.name}-{runs}"
            while len(lost) < kills:
                starts += 1
                workdir = tmp_path / f"machine-{starts}"
                result = kill_machine(recipe, workdir, url, random, len(lost) % 2 == 0, machines)
                shutil.rmtree(workdir)
                if result is None:
                    break
                lost.append(result)
            train(recipe, tmp_path / f"last-{runs}", "--mirror", url, **machines)
            assert_same_end(tmp_path / f"last-{runs}", uninterrupted)
    updates, seconds = zip(*lost, strict=True)
    record_property(
        "mirror_faults",
        f"machine killed and replaced by an empty one, half of them within an upload | {kills} | {kills} | "
        f"{np.median(updates):.0f} ({max(updates)}) | {np.median(seconds):.1f} ({max(seconds):.1f})",
    )


@pytest.mark.parametrize(
    "store",
    ["directory", pytest.param("s3", marks=pytest.mark.faults), pytest.param("gcs", marks=pytest.mark.faults)],
    indirect=True,
)
def test_a_stopped_run_continues_after_its_directory_is_deleted(
    store,  # noqa: F811
    recipe,
    uninterrupted,
    tmp_path,
    machines,
    record_property,
    request,
):
    workdir = tmp_path / "run"
    with training(recipe, workdir, "--mirror", store, **machines) as process:
        assert wait_for(lambda: last_reported_step(workdir) > 0, process, seconds=400)
        process.send_signal(TERM)
        began = time.monotonic()
        output = process.communicate(timeout=400)[0]
        took = time.monotonic() - began
    assert process.returncode == 143, output
    [step] = [int(word) for word in output.splitlines()[-1].split() if word.isdigit()][:1]
    assert newest_in(store) == step
    shutil.rmtree(workdir)
    output = train(recipe, workdir, "--mirror", store, **machines)
    assert f"{workdir} is filled from {store} at step {step}." in output
    assert f"resuming after step {step}" in output
    assert_same_end(workdir, uninterrupted)
    kind = request.node.callspec.id
    record_property(
        "mirror_faults", f"SIGTERM, then an empty machine ({kind}), ended after {took:.1f} s | 1 | 1 | 0 | 0"
    )


@pytest.mark.parametrize(
    "fault", ["500", *(pytest.param(fault, marks=pytest.mark.faults) for fault in ("silent", "slow", "cut"))]
)
def test_a_failing_store_does_not_stop_the_training(
    fault,
    recipe,
    uninterrupted,
    tmp_path,
    machines,
    record_property,
    s3_port,  # noqa: F811
):
    url, workdir = f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "run"
    with proxy_to(s3_port) as proxy, variables(s3_variables(s3_port)):
        environment = {**simulate_devices(1), **s3_variables(proxy.port)}
        with training(recipe, workdir, "--mirror", url, env=environment, **machines) as process:
            assert wait_for(lambda: newest_in(url), process, seconds=400)
            proxy.fault = fault
            wait_for(lambda: last_reported_step(workdir) >= 101, process, seconds=400)
            began = time.monotonic()
            proxy.fault = "none"
            output = process.communicate(timeout=400)[0]
            took = time.monotonic() - began
        assert process.returncode == 0, output
        assert "Traceback" not in output, output
        assert_same_run(workdir, uninterrupted)
        assert newest_in(url) == 101
        train(recipe, tmp_path / "new", "--mirror", url, **machines)
        assert_same_end(tmp_path / "new", uninterrupted)
    name = {"500": "answers 500", "silent": "stops answering", "slow": "is slow", "cut": "closes connections midway"}[
        fault
    ]
    record_property("mirror_faults", f"the store {name}, ended {took:.1f} s after it recovered | 1 | 1 | 0 | 0")


@pytest.mark.faults
def test_a_store_that_stays_silent_delays_the_stop_by_20_seconds(
    recipe,
    tmp_path,
    machines,
    record_property,
    s3_port,  # noqa: F811
):
    url, workdir = f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "run"
    options = ["--mirror", url, "--training.steps", "100000"]
    with proxy_to(s3_port) as proxy, variables(s3_variables(s3_port)):
        environment = {**simulate_devices(1), **s3_variables(proxy.port)}
        with training(recipe, workdir, *options, env=environment, **machines) as process:
            assert wait_for(lambda: newest_in(url), process, seconds=400)
            proxy.fault = "silent"
            time.sleep(1)
            process.send_signal(TERM)
            began = time.monotonic()
            output = process.communicate(timeout=400)[0]
            took = time.monotonic() - began
    assert process.returncode == 143, output
    assert "waiting up to 20 s for the upload to" in output
    assert f"{url} is not complete: it holds step" in output
    assert 20 <= took < 60
    record_property(
        "mirror_faults", f"SIGTERM while the store does not answer, ended after {took:.1f} s | 1 | 1 | 0 | 0"
    )


def test_a_second_machine_with_the_same_mirror_is_refused(recipe, tmp_path, machines):
    url = str(tmp_path / "mirror")
    with training(recipe, tmp_path / "first", "--mirror", url, "--training.steps", "100000", **machines) as first:
        assert wait_for(lambda: newest_in(url), first)
        output = train(recipe, tmp_path / "second", "--mirror", url, status=2, **machines)
    assert f"error: {url} is in use by process " in output.splitlines()[-1]
    assert not (tmp_path / "second").exists()


def test_bad_mirrors_are_refused_in_one_line(recipe, tmp_path, machines):
    (tmp_path / "file").write_text("")
    for url, reason in {
        "foo://x": "foo:// is not a known kind of URL",
        "s3://": "names no bucket",
        str(tmp_path / "missing" / "mirror"): "does not exist",
        str(tmp_path / "file"): "file is not a directory",
        str(tmp_path / "run" / "mirror"): "overlap. Choose another --mirror.",
    }.items():
        output = train(recipe, tmp_path / "run", "--mirror", url, status=2, **machines)
        assert reason in output.splitlines()[-1]
        assert output.splitlines()[-1].startswith("error: ")
        assert not (tmp_path / "run").exists()


@pytest.mark.faults
def test_a_full_mirror_does_not_stop_the_training(recipe, uninterrupted, tmp_path, machines, record_property):
    disk, workdir = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        url = str(disk / "mirror")
        with training(recipe, workdir, "--mirror", url, **machines) as process:
            assert wait_for(lambda: newest_in(url), process, seconds=400)
            filler = disk / "filler"
            filler.write_bytes(bytes(shutil.disk_usage(disk).free))
            wait_for(lambda: last_reported_step(workdir) >= 101, process, seconds=400)
            time.sleep(2)
            filler.unlink()
            output = process.communicate(timeout=400)[0]
        assert process.returncode == 0, output
        assert "No space left on device" in output
        assert "is up to date again at step 101." in output
        assert_same_run(workdir, uninterrupted)
        assert checkpoints(disk / "mirror") == checkpoints(workdir) or newest_in(url) == 101
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    record_property("mirror_faults", "the disk of the mirror is full | 1 | 1 | 0 | 0")
