"""The files of a mirror in a directory and in object stores on loopback."""

import pytest
from object_stores import each_exclusive_store, each_store, gcs_port, hub, s3_port, store  # noqa: F401

from transformer_jax.errors import InputError
from transformer_jax.mirror.opening import open_mirror, require_separate, require_unused


@each_store
def test_uploaded_files_are_listed_and_read(store, tmp_path):  # noqa: F811
    objects = open_mirror(store)
    assert objects.names() == []
    assert objects.read("config.json") is None
    (tmp_path / "config.json").write_bytes(b"first")
    objects.upload(tmp_path, ["config.json"])
    (tmp_path / "config.json").write_bytes(b"second")
    objects.upload(tmp_path, ["config.json"])
    objects.upload(tmp_path, ["config.json"], "checkpoints/7/state")
    assert objects.names() == ["checkpoints/7/state/config.json", "config.json"]
    assert objects.names("checkpoints") == ["checkpoints/7/state/config.json"]
    assert objects.read("config.json") == b"second"
    objects.download("checkpoints/7/state/config.json", tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == b"second"


@each_store
def test_a_neighbour_with_the_same_prefix_is_not_listed(store, tmp_path):  # noqa: F811
    (tmp_path / "a").write_bytes(b"a")
    open_mirror(f"{store}-2").upload(tmp_path, ["a"])
    assert open_mirror(store).names() == []
    assert open_mirror(store).sealed_steps() == []


@each_store
def test_only_sealed_checkpoints_count(store, tmp_path):  # noqa: F811
    objects = open_mirror(store)
    for name in ("checksums.json", "progress.json"):
        (tmp_path / name).write_bytes(b"{}")
        objects.upload(tmp_path, [name], "checkpoints/7")
    objects.upload(tmp_path, ["progress.json"], "checkpoints/11")
    objects.upload(tmp_path, ["checksums.json"], "checkpoints/013")
    assert objects.sealed_steps() == [7]
    with pytest.raises(InputError, match=r"already holds a run \(step 7\)\. Omit --fresh, or choose another --mirror"):
        require_unused(store)
    objects.delete_checkpoint(7)
    objects.delete_checkpoint(7)
    assert objects.names("checkpoints") == ["checkpoints/013/checksums.json", "checkpoints/11/progress.json"]
    require_unused(store)


@each_exclusive_store
def test_a_file_is_created_only_once(store):  # noqa: F811
    objects = open_mirror(store)
    assert objects.create("lease/1.json", b"one")
    assert not objects.create("lease/1.json", b"two")
    assert objects.read("lease/1.json") == b"one"
    objects.replace("lease/1.json", b"three")
    assert objects.read("lease/1.json") == b"three"


def test_a_mirror_on_an_unmounted_drive_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"drive does not exist\. Create or mount it, or choose another --mirror\."):
        open_mirror(str(tmp_path / "drive" / "run"))


@pytest.mark.parametrize("name", ["run", "run/mirror", "run/../run", ".", "link"])
def test_a_mirror_that_overlaps_the_run_is_refused(name, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with pytest.raises(InputError, match=r"overlap\. Choose another --mirror\."):
        require_separate(str(tmp_path / name), tmp_path / "run")
    for url in (str(tmp_path / "run-2"), "s3://bucket/run"):
        require_separate(url, tmp_path / "run")


def test_a_failed_copy_leaves_the_earlier_file(tmp_path):
    objects = open_mirror(str(tmp_path / "mirror"))
    (tmp_path / "a").write_bytes(b"first")
    objects.upload(tmp_path, ["a"])
    (tmp_path / "a").unlink()
    with pytest.raises(FileNotFoundError):
        objects.upload(tmp_path, ["a"])
    assert objects.names() == ["a"]
    assert objects.read("a") == b"first"
