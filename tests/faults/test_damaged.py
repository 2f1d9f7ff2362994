"""Each file of a checkpoint, cut short and with a byte flipped in turn: found out, named, kept aside, never used."""

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
def test_a_damaged_file_is_found_out_whichever_it_is(damage, whole, tmp_path, caplog, record_property):
    steps = checkpoints(whole)
    names = files(whole / "checkpoints" / str(steps[-1]))
    assert len(names) > 8
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(whole / "checkpoints", folder)
        DAMAGES[damage](folder / str(steps[-1]) / name)
        caplog.clear()
        assert Checkpoints(folder).latest_step() == steps[-2], name
        [warning] = caplog.messages
        assert str(folder / str(steps[-1])) in warning
        assert "damaged" in warning
        assert (folder / f"{steps[-1]}.damaged-1").is_dir()
    record_property("faults", f"a file of the newest checkpoint {damage} | {len(names)} | {len(names)} | -")


@pytest.mark.parametrize(
    "damage", ["a bit flipped", *(pytest.param(name, marks=pytest.mark.faults) for name in ("cut short", "removed"))]
)
def test_translation_never_uses_a_damaged_checkpoint_silently(damage, whole, tmp_path, caplog):
    steps = checkpoints(whole)
    for step in steps:
        for name in files(whole / "checkpoints" / str(step)):
            folder = tmp_path / f"{step}-{str(name).replace('/', '-')}"
            shutil.copytree(whole / "checkpoints", folder)
            DAMAGES[damage](folder / str(step) / name)
            caplog.clear()
            params = load_params(folder)
            if not caplog.messages:
                jax.tree.map(np.testing.assert_array_equal, params, load_params(whole / "checkpoints"))
    for step in steps:
        DAMAGES[damage](folder / str(step) / "progress.json")
    with pytest.raises(InputError, match="only damaged checkpoints"):
        load_params(folder)


@pytest.mark.faults
@pytest.mark.parametrize("which", ["newest", "all"])
def test_a_run_goes_on_from_what_is_whole(which, recipe, whole, tmp_path, record_property):
    workdir = shutil.copytree(whole, tmp_path / "run")
    steps = checkpoints(workdir)
    for step in steps[-1:] if which == "newest" else steps:
        flip(workdir / "checkpoints" / str(step) / "progress.json")
    output = train(recipe, workdir)
    assert f"{steps[-1]}.damaged-1" in output
    for aside in (workdir / "checkpoints").glob("*.damaged-*"):
        shutil.rmtree(aside)
    assert_same_run(workdir, whole)
    record_property("faults", f"{which} checkpoint damaged, then trained on | 1 | 1 | -")
