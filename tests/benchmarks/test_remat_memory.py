"""The benchmark of rematerialization, without the TPU's compiler."""

import json

import pytest
from documented import ROOT

from benchmarks import remat


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The configs whose steps were compiled. Each needs as many GB as its rows have tokens."""
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remat.os, "environ", {})
    configs = []

    def measure(config, chip):
        configs.append(config)
        return {"fits": True, "temporary_gb": config.data.row_length}

    monkeypatch.setattr(remat, "measure", measure)
    return configs


def test_every_row_length_is_measured_with_and_without_remat(measured):
    remat.main(["--row-lengths", "64", "128", "--batch-tokens", "256"])
    lengths = [(config.data.row_length, config.data.max_length, config.training.remat) for config in measured]
    assert lengths == [(64, 64, "none"), (64, 64, "blocks"), (128, 128, "none"), (128, 128, "blocks")]
    assert {config.data.batch_tokens for config in measured} == {256}


def test_a_new_measurement_replaces_the_earlier_one(measured):
    for tokens in ("256", "512"):
        remat.main(["--row-lengths", "64", "--remat", "blocks", "--batch-tokens", tokens])
    remat.main(["--row-lengths", "64", "--remat", "none", "--batch-tokens", "256"])
    records = json.loads(remat.RECORD.read_text())
    assert [(record["remat"], record["batch_tokens"]) for record in records] == [("blocks", 512), ("none", 256)]
    assert records[0]["temporary_gb"] == 64
