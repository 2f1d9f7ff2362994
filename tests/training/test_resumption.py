"""What a resumed run takes over from its last checkpoint."""

import dataclasses
import json

import pytest
from number_words import assert_same_run

from transformer_jax.config import DataConfig
from transformer_jax.data import pipeline
from transformer_jax.storage.checkpoints import Progress
from transformer_jax.storage.checksums import seal
from transformer_jax.training import loop
from transformer_jax.training.resumption import resumed_row_lengths


@pytest.mark.parametrize(
    ("progress", "row_lengths"),
    [
        (Progress(), []),
        (Progress(data={}), [19, 29]),
        (Progress(data={}, row_lengths=[23]), [23]),
        (Progress(data={}, row_lengths=[]), []),
    ],
)
def test_only_a_new_run_chooses_row_lengths(progress, row_lengths, make_config):
    config = dataclasses.replace(make_config(), data=DataConfig(row_length=19, max_length=29))
    assert resumed_row_lengths(config, progress) == row_lengths


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_run_with_two_row_lengths_keeps_them(is_recorded, make_config, tmp_path, monkeypatch):
    def config(steps):
        whole = make_config(steps=steps)
        return dataclasses.replace(whole, data=dataclasses.replace(whole.data, row_length=4))

    monkeypatch.setattr(pipeline, "MAX_LENGTHENING", 0)  # As in earlier versions, which recorded no lengths.
    loop.fit(config(12), tmp_path / "uninterrupted")
    loop.fit(config(8), tmp_path / "run")
    monkeypatch.undo()
    checkpoint = tmp_path / "run/checkpoints/8"
    progress = json.loads((checkpoint / "progress.json").read_text())
    assert progress["row_lengths"] == [4, 16]
    if not is_recorded:
        del progress["row_lengths"]
        (checkpoint / "progress.json").write_text(json.dumps(progress))
        seal(checkpoint)
    loop.fit(config(12), tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "uninterrupted")


def test_a_new_run_records_its_single_row_length(make_config, tmp_path):
    config = make_config(steps=1)
    loop.fit(dataclasses.replace(config, data=dataclasses.replace(config.data, row_length=4)), tmp_path / "run")
    assert json.loads((tmp_path / "run/checkpoints/1/progress.json").read_text())["row_lengths"] == [5]
