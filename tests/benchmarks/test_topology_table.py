"""The table of TPU slices is built from the recorded rows."""

import pytest

from benchmarks import topologies
from benchmarks.topologies import BEGIN_MARKER, END_MARKER, ROWS, compile_row, main, table
from transformer_jax.commands.train import parse_train
from transformer_jax.errors import InputError, RunError

MIB = 2**20
VALUES = {
    "memory": {"parameters": 2 * MIB, "optimizer state and average": 3 * MIB, "batch": 5, "temporary": 7 * MIB},
    "sent": {"all-reduce f32": 11 * MIB, "all-reduce bf16": 13 * MIB, "all-gather bf16": 17 * MIB},
    "minimum_seconds": [0.019, 0.023, 0.002],
    "compile_seconds": 29.3,
}


def test_table_of_this_checkout_matches_its_record():
    main(["--check"])


def test_table_has_a_line_per_row():
    lines = table({ROWS[0]: VALUES, ROWS[1]: {"problem": "too large"}}).splitlines()
    assert lines[2] == "| `wmt14_base --topology v5e:1x1` | 5 | 7 | 24 | 0 | 17 | 23.0 | 29 s |"
    assert lines[3] == "| `wmt14_base --topology v5e:2x2` | does not fit | | | | | | |"
    assert {line.count("|") for line in lines} == {9}


def test_every_row_is_a_valid_command():
    for row in ROWS:
        assert parse_train(["--dry-run", "--config", *row.split()]).topology


def test_row_that_does_not_fit_is_recorded(monkeypatch, tmp_path):
    def refuse(config, name):
        raise InputError("too large")

    monkeypatch.setattr(topologies, "compile_for_topology", refuse)
    monkeypatch.setattr(topologies.metadata, "version", lambda package: "7")
    assert compile_row(ROWS[0]) == {"problem": "too large", "versions": {"jax": "7", "libtpu": "7"}}
    for folder in ("docs", "benchmarks/results"):
        (tmp_path / folder).mkdir(parents=True)
    page = tmp_path / "docs/scaling.md"
    page.write_text(f"before\n{BEGIN_MARKER}\n{END_MARKER}\nafter\n")
    main(["--only", ROWS[0]], tmp_path)
    assert "| `wmt14_base --topology v5e:1x1` | does not fit |" in page.read_text()
    main(["--check"], tmp_path)
    page.write_text(page.read_text().replace("not fit", "fit"))
    with pytest.raises(RunError, match="out of date"):
        main(["--check"], tmp_path)
