"""Uploads: what the mirror holds after each of them, and what happens if the store fails."""

import shutil
import time

import pytest
from object_stores import each_store, gcs_port, hub, s3_port, store  # noqa: F401
from small_runs import Mirroring, contents, mirror, mirror_contents, write_checkpoint, write_run

from transformer_jax.mirror import uploader as uploader_module
from transformer_jax.mirror.objects import MirrorObjects
from transformer_jax.mirror.opening import open_mirror


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr(uploader_module, "POLL_SECONDS", 0.02)


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.01)


@pytest.fixture
def uploads(monkeypatch):
    """The names of all uploaded files, in order."""
    names, upload = [], MirrorObjects.upload

    def record(objects, directory, batch, folder=""):
        upload(objects, directory, batch, folder)
        names.extend(f"{folder}/{name}".lstrip("/") for name in batch)

    monkeypatch.setattr(MirrorObjects, "upload", record)
    return names


@each_store
def test_a_mirror_is_a_copy_of_the_run(store, tmp_path):  # noqa: F811
    run = write_run(tmp_path / "run", 5, 7, 11)
    mirroring = Mirroring(run, store)
    wait_until(lambda: mirroring.uploader.newest_step == 11)
    write_checkpoint(run, 13, best=5)
    wait_until(lambda: mirroring.uploader.newest_step == 13)
    shutil.rmtree(run / "checkpoints" / "7")
    assert mirroring.finish()
    assert mirror_contents(store) == contents(run)


@each_store
def test_the_mirror_is_pruned_like_the_run(store, tmp_path):  # noqa: F811
    run = write_run(tmp_path / "run", 3)
    mirroring = Mirroring(run, store)
    for step in (5, 7, 11):
        wait_until(lambda step=step: mirroring.uploader.newest_step < step and mirroring.uploader.behind_since is None)
        write_checkpoint(run, step, best=3)
        wait_until(lambda step=step: mirroring.uploader.newest_step == step)
    assert mirroring.finish()
    assert open_mirror(store).sealed_steps() == [3, 7, 11]
    assert not [name for name in open_mirror(store).names() if "checkpoints/5/" in name]


def test_the_seal_comes_after_everything_that_it_needs(tmp_path, uploads):
    mirror(write_run(tmp_path / "run", 5, 7), str(tmp_path / "mirror"))
    first, second = (uploads.index(f"checkpoints/{step}/checksums.json") for step in (5, 7))
    assert {name for name in uploads[:first] if name.startswith("checkpoints/")} == {
        "checkpoints/5/progress.json",
        "checkpoints/5/state/d/array",
        "checkpoints/5/state/empty",
    }
    assert uploads[:first][-3:] == ["metrics.jsonl", "run_id.txt", "config.json"]
    assert uploads[second] == uploads[-1]
    assert len(uploads) == len(set(uploads))


def test_small_files_are_newer_than_the_checkpoint(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", 5)
    mirroring = Mirroring(run, str(tmp_path / "mirror"))
    wait_until(lambda: mirroring.uploader.newest_step == 5)
    (run / "metrics.jsonl").write_text("changed\n")
    write_checkpoint(run, 7)
    wait_until(lambda: (tmp_path / "mirror/checkpoints/7/checksums.json").exists())
    assert (tmp_path / "mirror/metrics.jsonl").read_text() == "changed\n"
    monkeypatch.setattr(uploader_module, "SMALL_FILES_SECONDS", 0.1)
    (run / "metrics.jsonl").write_text("changed again\n")
    wait_until(lambda: (tmp_path / "mirror/metrics.jsonl").read_text() == "changed again\n")
    assert mirroring.finish()


def test_nothing_is_uploaded_before_the_run_has_a_config(tmp_path):
    run = write_run(tmp_path / "run", 5)
    (run / "config.json").unlink()
    mirror(run, str(tmp_path / "mirror"))
    assert open_mirror(str(tmp_path / "mirror")).names() == []
    assert not (run / "run_id.txt").exists()


def test_another_checkpoint_of_the_same_step_is_replaced(tmp_path, uploads):
    run = write_run(tmp_path / "run", 5)
    mirror(run, str(tmp_path / "mirror"))
    shutil.rmtree(run / "checkpoints" / "5")
    write_checkpoint(run, 5, content=b"other")
    mirror(run, str(tmp_path / "mirror"))
    assert mirror_contents(str(tmp_path / "mirror")) == contents(run)
    uploads.clear()
    mirror(run, str(tmp_path / "mirror"))
    assert not [name for name in uploads if name.startswith("checkpoints/")]


def test_a_checkpoint_that_the_run_removes_is_still_uploaded(tmp_path, monkeypatch):
    run, upload = write_run(tmp_path / "run", 5), MirrorObjects.upload

    def remove_before_upload(objects, directory, batch, folder=""):
        shutil.rmtree(run / "checkpoints" / "5", ignore_errors=True)
        upload(objects, directory, batch, folder)

    monkeypatch.setattr(MirrorObjects, "upload", remove_before_upload)
    mirroring = Mirroring(run, str(tmp_path / "mirror"))
    wait_until(lambda: mirroring.uploader.newest_step == 5)
    assert mirroring.finish()
    assert open_mirror(str(tmp_path / "mirror")).sealed_steps() == [5]
    assert not any((run / "checkpoints").iterdir())
    assert not (run / ".upload.unfinished").exists()


def test_failures_are_repeated_and_reported_once(tmp_path, monkeypatch, caplog):
    run, upload, failures = write_run(tmp_path / "run", 5), MirrorObjects.upload, []

    def fail_four_times(objects, directory, batch, folder=""):
        if len(failures) < 4:
            failures.append(batch)
            raise OSError("no\nanswer")
        upload(objects, directory, batch, folder)

    monkeypatch.setattr(MirrorObjects, "upload", fail_four_times)
    monkeypatch.setattr(uploader_module, "MAX_RETRY_SECONDS", 0.1)
    caplog.set_level("INFO")
    mirroring = Mirroring(run, str(tmp_path / "mirror"))
    wait_until(lambda: mirroring.uploader.problem)
    assert mirroring.uploader.status() == "mirror at step 0, behind for 0 s"
    wait_until(lambda: mirroring.uploader.newest_step == 5 and not mirroring.uploader.problem)
    assert mirroring.uploader.status() == ""
    assert mirroring.finish()
    url = tmp_path / "mirror"
    assert caplog.messages == [
        f"{url} is behind at step 0: no\\nanswer. Training continues, and the upload is repeated.",
        f"{url} is up to date again at step 5.",
    ]


def test_a_store_that_does_not_answer_is_reported_and_not_waited_for(tmp_path, monkeypatch, caplog):
    run = write_run(tmp_path / "run", 5)
    monkeypatch.setattr(MirrorObjects, "upload", lambda *_: time.sleep(1000))
    monkeypatch.setattr(uploader_module, "BEHIND_SECONDS", 0.2)
    mirroring = Mirroring(run, str(tmp_path / "mirror"))
    wait_until(lambda: mirroring.uploader.status())
    assert "is behind at step 0: not finished after 0 s. Training continues" in caplog.text
    began = time.monotonic()
    assert not mirroring.finish(2.0)
    assert time.monotonic() - began < 10


def test_nothing_is_uploaded_after_the_lease_is_lost(tmp_path):
    run = write_run(tmp_path / "run", 5)
    mirroring = Mirroring(run, str(tmp_path / "mirror"))
    wait_until(lambda: mirroring.uploader.newest_step == 5)
    mirroring.lease.is_lost = True
    write_checkpoint(run, 7)
    assert not mirroring.finish()
    assert open_mirror(str(tmp_path / "mirror")).sealed_steps() == [5]
    assert mirroring.uploader.reason() == "another machine has taken it over"
