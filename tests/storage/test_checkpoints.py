"""Checkpoints that are kept, replaced or removed. tests/faults tests damaged checkpoints in real runs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import checkpoints as checkpointing
from transformer_jax.storage.checkpoints import Checkpoints, Progress, best_step, load_params
from transformer_jax.training.state import TrainState


def state(step):
    params = {"w": jnp.full((3,), float(step))}
    return TrainState(jnp.asarray(step, jnp.int32), params, (), None, jax.random.key(5), jnp.zeros((), jnp.int32))


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_checkpoint_replaces_an_earlier_one_of_the_same_step(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), Progress())
        checkpoints.save(state(3), Progress(best_step=3, validated=3))
    assert names(tmp_path) == ["3"]
    assert Checkpoints(tmp_path).progress().validated == 3


def test_state_and_progress_are_restored(tmp_path):
    progress = Progress(3, 1.25, 2, 3, 7.5, {"sums": {"loss": 0.1}, "seconds": 1.0}, {"next_index": 5}, 8)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), progress)
    reopened = Checkpoints(tmp_path)
    assert reopened.progress() == progress
    restored = reopened.restore(state(0))
    assert int(restored.step) == 3
    np.testing.assert_array_equal(restored.params["w"], [3, 3, 3])
    assert (jax.random.key_data(restored.key) == jax.random.key_data(jax.random.key(5))).all()


def test_unfinished_directories_are_removed_silently(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), Progress())
    (tmp_path / "5.unfinished" / "state.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "2.removed.unfinished").mkdir()
    Checkpoints(tmp_path)
    assert names(tmp_path) == ["3"]
    assert not caplog.messages


def test_a_kill_while_replacing_a_checkpoint_loses_nothing(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), Progress(validated=3))
    (tmp_path / "3").rename(tmp_path / "3.unfinished")
    (tmp_path / "3.removed.unfinished").mkdir()
    assert Checkpoints(tmp_path).progress().validated == 3
    assert names(tmp_path) == ["3"]


def test_directories_with_other_names_are_not_checkpoints(tmp_path):
    for name in ("007", "²", "3 copy"):
        (tmp_path / name).mkdir()
    assert Checkpoints(tmp_path).latest_step() is None


def test_a_damaged_best_checkpoint_is_replaced_by_the_newest(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state(step), Progress(best_step=1, best_score=7.0, best_loss=2.0, stale=step - 1))
    (tmp_path / "1" / "progress.json").write_text("{")
    assert best_step(tmp_path) == 3
    assert (
        "the best checkpoint, step 1, is damaged: progress.json does not match its checksum. Using step 3."
        in caplog.text
    )
    np.testing.assert_array_equal(load_params(tmp_path)["w"], [3, 3, 3])
    progress = Checkpoints(tmp_path).progress()
    assert (progress.best_step, progress.best_score, progress.best_loss, progress.stale) == (0, -1.0, None, 2)
    assert names(tmp_path) == ["1.damaged-1", "2", "3"]


def test_the_newest_checkpoint_is_used_before_any_validation(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), Progress())
    assert best_step(tmp_path) == 3
    assert "no validation yet. Using step 3." in caplog.text


def test_a_failed_save_is_reported_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1), Progress())
    checkpoints.wait()

    def fail(directory):
        raise ValueError("OUT_OF_RANGE: no space\nand more")

    monkeypatch.setattr(checkpointing, "seal", fail)
    checkpoints.save(state(2), Progress())
    with pytest.raises(
        RunError, match=r"saving a checkpoint failed \(OUT_OF_RANGE: no space\).* resumes after step 1\."
    ):
        checkpoints.wait()
    assert checkpoints.latest_step() == 1
    assert json.loads((tmp_path / "1" / "progress.json").read_text())["best_step"] == 0


def test_a_directory_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no checkpoint"):
        load_params(tmp_path)
    assert Checkpoints(tmp_path / "new").latest_step() is None
