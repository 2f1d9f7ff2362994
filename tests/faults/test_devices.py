"""A run goes on with another number of devices: same batches, same loss within rounding."""

import json

import numpy as np
import pytest
from real_runs import TERM, checkpoints, metrics, reported, train, training, wait_for, write_recipe

# 31 rows of 16 positions, which 8 devices cannot share: begun on one device, the run needs empty rows on 8.
BATCH_TOKENS = 500


@pytest.mark.parametrize(
    "devices", [(8, 1, 8), pytest.param((1, 8, 1), marks=pytest.mark.faults)], ids=lambda each: "-".join(map(str, each))
)
def test_a_run_goes_on_with_another_number_of_devices(devices, tmp_path, record_property):
    recipe = write_recipe(tmp_path, batch_tokens=BATCH_TOKENS)
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    train(recipe, whole, devices=devices[0])
    for part, number in enumerate(devices[:-1], start=1):
        with training(recipe, moved, devices=number) as process:
            assert wait_for(lambda part=part: reported(moved) > 5 * part, process)
            process.send_signal(TERM)
            process.communicate(timeout=60)
            assert process.returncode == 143
    # On a mesh of another shape, too.
    train(recipe, moved, *(["--mesh.fsdp", "2", "--mesh.tensor", "2"] if devices[-1] == 8 else []), devices=devices[-1])
    assert [line["step"] for line in metrics(moved)] == [line["step"] for line in metrics(whole)]
    losses = [[line["loss"] for line in metrics(folder)] for folder in (moved, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    ends = [
        json.loads((folder / f"checkpoints/{checkpoints(folder)[-1]}/progress.json").read_text())
        for folder in (moved, whole)
    ]
    assert ends[0]["data"] == ends[1]["data"]
    record_property("faults", f"on {', then '.join(map(str, devices))} devices | 1 | 1 | 0")
