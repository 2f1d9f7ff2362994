"""What is kept, what is replaced, what is removed; tests/faults shows what becomes of damaged ones."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import RunError
from transformer_jax.storage import checkpoints as checkpointing
from transformer_jax.storage.checkpoints import Checkpoints, Progress, best_step, load_params
from transformer_jax.training.state import TrainState


def state(step):
    params = {"w": jnp.full((3,), float(step))}
    return TrainState(jnp.asarray(step, jnp.int32), params, (), None, jax.random.key(5), jnp.zeros((), jnp.int32))


def steps(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_of_the_same_step_replaces_the_earlier_one(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), Progress())
        checkpoints.save(state(3), Progress(best_step=3, validated=3))
    assert steps(tmp_path) == ["3"]
    assert Checkpoints(tmp_path).progress().validated == 3


def test_a_state_comes_back_with_its_progress(tmp_path):
    progress = Progress(3, 1.25, 2, 3, 7.5, {"sums": {"loss": 0.1}, "seconds": 1.0}, {"next_index": 5}, 8)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), progress)
    again = Checkpoints(tmp_path)
    assert again.progress() == progress
    restored = again.restore(state(0))
    assert int(restored.step) == 3
    np.testing.assert_array_equal(restored.params["w"], [3, 3, 3])
    assert (jax.random.key_data(restored.key) == jax.random.key_data(jax.random.key(5))).all()


def test_left_overs_are_removed_without_a_word(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), Progress())
    (tmp_path / "5.unfinished" / "state.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "2.removed.unfinished").mkdir()
    Checkpoints(tmp_path)
    assert steps(tmp_path) == ["3"]
    assert not caplog.messages


def test_a_kill_between_the_two_names_of_a_replaced_checkpoint_loses_neither(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), Progress(validated=3))
    (tmp_path / "3").rename(tmp_path / "3.unfinished")
    (tmp_path / "3.removed.unfinished").mkdir()
    assert Checkpoints(tmp_path).progress().validated == 3
    assert steps(tmp_path) == ["3"]


def test_folders_with_other_names_are_no_checkpoints(tmp_path):
    for name in ("007", "²", "3 copy"):
        (tmp_path / name).mkdir()
    assert Checkpoints(tmp_path).latest_step() is None


def test_when_the_best_is_damaged_the_best_is_sought_anew(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state(step), Progress(best_step=1, best_score=7.0, stale=step - 1))
    (tmp_path / "1" / "progress.json").write_text("{")
    assert best_step(tmp_path) == 3
    assert "the best checkpoint, 1, is damaged: progress.json is not as it was written. Step 3 is used" in caplog.text
    np.testing.assert_array_equal(load_params(tmp_path)["w"], [3, 3, 3])
    progress = Checkpoints(tmp_path).progress()
    assert (progress.best_step, progress.best_score, progress.stale) == (0, -1.0, 2)
    assert steps(tmp_path) == ["1.damaged-1", "2", "3"]


def test_before_the_first_validation_the_newest_is_used_and_that_is_said(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), Progress())
    assert best_step(tmp_path) == 3
    assert "no step is validated yet. Step 3 is used" in caplog.text


def test_a_checkpoint_that_cannot_be_saved_is_said_and_the_last_one_stays(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1), Progress())
    checkpoints.wait()

    def fail(folder):
        raise ValueError("OUT_OF_RANGE: no space\nand more")

    monkeypatch.setattr(checkpointing, "seal", fail)
    checkpoints.save(state(2), Progress())
    with pytest.raises(RunError, match=r"cannot be saved \(OUT_OF_RANGE: no space\).* goes on after step 1\."):
        checkpoints.wait()
    assert checkpoints.latest_step() == 1
    assert json.loads((tmp_path / "1" / "progress.json").read_text())["best_step"] == 0
