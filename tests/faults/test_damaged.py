"""A checkpoint with a damaged file is detected, renamed and never used, whichever file it is."""

import shutil

import jax
import numpy as np
import pytest
from real_runs import assert_same_run, checkpoints, train

from transformer_jax.errors import InputError
from transformer_jax.storage.checkpoints import Checkpoints, load_params


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


DAMAGES = {"cut short": cut, "a bit flipped": flip, "removed": lambda path: path.unlink()}


def files(checkpoint):
    return sorted(
        path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file() and path.stat().st_size
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_with_any_damaged_file_is_not_restored(damage, uninterrupted, tmp_path, caplog, record_property):
    steps = checkpoints(uninterrupted)
    names = files(uninterrupted / "checkpoints" / str(steps[-1]))
    assert len(names) > 8
    for number, name in enumerate(names):
        copy = tmp_path / str(number)
        shutil.copytree(uninterrupted / "checkpoints", copy)
        DAMAGES[damage](copy / str(steps[-1]) / name)
        caplog.clear()
        assert Checkpoints(copy).latest_step() == steps[-2], name
        [warning] = caplog.messages
        assert str(copy / str(steps[-1])) in warning
        assert "damaged" in warning
        assert (copy / f"{steps[-1]}.damaged-1").is_dir()
    record_property("faults", f"a file of the newest checkpoint {damage} | {len(names)} | {len(names)} | -")


@pytest.mark.parametrize(
    "damage", ["a bit flipped", *(pytest.param(name, marks=pytest.mark.faults) for name in ("cut short", "removed"))]
)
def test_translation_never_silently_uses_a_damaged_checkpoint(damage, uninterrupted, tmp_path, caplog):
    steps = checkpoints(uninterrupted)
    for step in steps:
        for name in files(uninterrupted / "checkpoints" / str(step)):
            copy = tmp_path / f"{step}-{str(name).replace('/', '-')}"
            shutil.copytree(uninterrupted / "checkpoints", copy)
            DAMAGES[damage](copy / str(step) / name)
            caplog.clear()
            params = load_params(copy)
            if not caplog.messages:
                jax.tree.map(np.testing.assert_array_equal, params, load_params(uninterrupted / "checkpoints"))
    for step in steps:
        DAMAGES[damage](copy / str(step) / "progress.json")
    with pytest.raises(InputError, match="all checkpoints are damaged"):
        load_params(copy)


@pytest.mark.faults
@pytest.mark.parametrize("which", ["newest", "all"])
def test_a_run_resumes_from_undamaged_checkpoints(which, recipe, uninterrupted, tmp_path, record_property):
    workdir = shutil.copytree(uninterrupted, tmp_path / "run")
    steps = checkpoints(workdir)
    for step in steps[-1:] if which == "newest" else steps:
        flip(workdir / "checkpoints" / str(step) / "progress.json")
    output = train(recipe, workdir)
    assert f"{steps[-1]}.damaged-1" in output
    for damaged in (workdir / "checkpoints").glob("*.damaged-*"):
        shutil.rmtree(damaged)
    assert_same_run(workdir, uninterrupted)
    record_property("faults", f"{which} checkpoint damaged, then trained on | 1 | 1 | -")
