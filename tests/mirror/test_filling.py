"""An empty run directory is filled from its mirror, and mirrors that do not fit are refused."""

import json
import shutil

import pytest
from object_stores import each_store, gcs_port, hub, s3_port, store  # noqa: F401
from small_runs import contents, mirror, write_checkpoint, write_run

from transformer_jax.errors import InputError
from transformer_jax.mirror import filling
from transformer_jax.mirror.filling import fill_or_compare, is_safe
from transformer_jax.mirror.objects import MirrorObjects
from transformer_jax.mirror.opening import open_mirror
from transformer_jax.storage.checkpoints import checkpoint_steps


def fill(workdir, url, check=lambda directory: None):
    workdir.mkdir(exist_ok=True)
    return fill_or_compare(workdir, open_mirror(url), check)


@pytest.fixture
def mirrored(tmp_path):
    """A run at step 7 with the best at 5, and its mirror."""
    run = write_run(tmp_path / "run", 5, 7)
    mirror(run, str(tmp_path / "mirror"))
    return run


@each_store
def test_an_empty_directory_is_filled_with_the_run(store, tmp_path):  # noqa: F811
    run = write_run(tmp_path / "run", 5, 7)
    mirror(run, store)
    assert fill(tmp_path / "new", store) == "1" * 32
    assert contents(tmp_path / "new") == contents(run)


def test_an_empty_mirror_changes_nothing(tmp_path):
    assert fill(tmp_path / "new", str(tmp_path / "mirror")) is None
    assert contents(tmp_path / "new") == {}


def test_locks_and_temporary_files_of_a_mirror_are_ignored(mirrored, tmp_path):
    for name in (".lock", ".config.json.unfinished", "results.json.partial"):
        (tmp_path / "mirror" / name).write_text("content")
    fill(tmp_path / "new", str(tmp_path / "mirror"))
    assert contents(tmp_path / "new") == contents(mirrored)
    assert not (tmp_path / "new" / ".lock").exists()


def test_half_uploaded_checkpoints_are_ignored(mirrored, tmp_path):
    shutil.copytree(mirrored / "checkpoints" / "7", tmp_path / "mirror" / "checkpoints" / "11")
    (tmp_path / "mirror" / "checkpoints" / "11" / "checksums.json").unlink()
    fill(tmp_path / "new", str(tmp_path / "mirror"))
    assert checkpoint_steps(tmp_path / "new" / "checkpoints") == [5, 7]


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing", "seal", "list"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(damage, mirrored, tmp_path, caplog):
    checkpoint = tmp_path / "mirror" / "checkpoints" / "7"
    if damage == "missing":
        (checkpoint / "state" / "d" / "array").unlink()
    elif damage in ("seal", "list"):
        (checkpoint / "checksums.json").write_text("{" if damage == "seal" else "7")
    else:
        content = (checkpoint / "progress.json").read_bytes()
        (checkpoint / "progress.json").write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b" ")
    fill(tmp_path / "new", str(tmp_path / "mirror"))
    assert checkpoint_steps(tmp_path / "new" / "checkpoints") == [5]
    [message] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith(f"{tmp_path}/mirror/checkpoints/7 is damaged and ignored: ")


def test_a_mirror_without_undamaged_checkpoint_is_refused(mirrored, tmp_path):
    for step in (5, 7):
        (tmp_path / "mirror" / "checkpoints" / str(step) / "progress.json").write_text("{}")
    with pytest.raises(InputError, match=r"mirror: all checkpoints are damaged\. Restore them from a copy, or choose"):
        fill(tmp_path / "new", str(tmp_path / "mirror"))
    assert contents(tmp_path / "new") == {}


def test_a_mirror_of_another_run_is_refused(mirrored, tmp_path):
    other = write_run(tmp_path / "other", 11)
    for run_id in (None, "2" * 32):
        if run_id:
            (other / "run_id.txt").write_text(run_id)
        with pytest.raises(InputError, match=r"mirror holds another run than .*other\. Choose another --mirror, or an"):
            fill(other, str(tmp_path / "mirror"))


def test_a_newer_mirror_is_refused_with_both_steps(mirrored, tmp_path):
    shutil.rmtree(mirrored / "checkpoints" / "7")
    with pytest.raises(
        InputError, match=r"is at step 7, but .*run is at step 5\. To resume from the mirror, choose an"
    ):
        fill(mirrored, str(tmp_path / "mirror"))
    write_checkpoint(mirrored, 11)
    before = contents(mirrored)
    assert fill(mirrored, str(tmp_path / "mirror")) == "1" * 32
    assert contents(mirrored) == before


def test_a_mirror_with_another_config_leaves_the_directory_empty(mirrored, tmp_path):
    def check(directory):
        assert json.loads((directory / "config.json").read_text()) == {"name": "run"}
        raise InputError("another config")

    with pytest.raises(InputError, match="another config"):
        fill(tmp_path / "new", str(tmp_path / "mirror"), check)
    assert contents(tmp_path / "new") == {}


@pytest.mark.parametrize("kills", range(12))
def test_a_killed_download_is_repeated(kills, mirrored, tmp_path, monkeypatch):
    calls, replace, download = [], filling.os.replace, MirrorObjects.download

    def counted(function):
        def call(*arguments):
            calls.append(function)
            if len(calls) > kills:
                raise SystemExit
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(filling.os, "replace", counted(replace))
        patch.setattr(MirrorObjects, "download", counted(download))
        patch.setattr(filling.shutil, "rmtree", lambda *_, **__: None)  # A killed process cleans nothing up.
        with pytest.raises(SystemExit):
            fill(tmp_path / "new", str(tmp_path / "mirror"))
    assert checkpoint_steps(tmp_path / "new" / "checkpoints") == []
    fill(tmp_path / "new", str(tmp_path / "mirror"))
    assert contents(tmp_path / "new") == contents(mirrored)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", "./a", "", "a\0", "a\\b", "..", 7, None])
def test_names_that_leave_the_directory_are_ignored(name):
    assert not is_safe(name)


def test_only_files_of_the_run_are_taken_from_a_checkpoint(mirrored, tmp_path):
    seal = tmp_path / "mirror" / "checkpoints" / "7" / "checksums.json"
    seal.write_text(json.dumps({**json.loads(seal.read_text()), "../../../../evil": "0" * 64}))
    fill(tmp_path / "new", str(tmp_path / "mirror"))
    assert checkpoint_steps(tmp_path / "new" / "checkpoints") == [5]
    assert not (tmp_path / "evil").exists()
