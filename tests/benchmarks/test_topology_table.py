"""The tables of TPU slices and of rematerialization are built from the recorded steps."""

import pytest

from benchmarks import topologies
from benchmarks.topologies import REMAT_ROWS, ROWS, compile_row, main, remat_table, table
from transformer_jax.commands.train import parse_train
from transformer_jax.errors import InputError

MIB = 2**20
VALUES = {
    "memory": {"parameters": 2 * MIB, "optimizer state and average": 3 * MIB, "batch": 5, "temporary": 7 * MIB},
    "peak": 29 * MIB,
    "sent": {"all-reduce f32": 11 * MIB, "all-reduce bf16": 13 * MIB, "all-gather bf16": 17 * MIB},
    "minimum_seconds": [0.019, 0.023, 0.002],
    "compile_cpu_seconds": 29,
}


def test_tables_of_this_checkout_match_their_record():
    main(["--check"])


def test_table_has_a_line_per_row():
    lines = table({ROWS[0]: VALUES, ROWS[1]: {"problem": "too large"}}).splitlines()
    assert lines[2] == "| `wmt14_base --topology v5e:1x1` | 5 | 7 | 24 | 0 | 17 | 23.0 | 29 |"
    assert lines[3] == "| `wmt14_base --topology v5e:2x2` | does not fit | | | | | | |"
    assert {line.count("|") for line in lines} == {9}


def test_remat_table_shows_what_does_not_fit():
    problem = "the step does not fit the memory of a device of v5e:1x1: 41.50 of 15.75 GiB needed. Set --data ..."
    lines = remat_table({REMAT_ROWS[1]: VALUES, REMAT_ROWS[4]: {"problem": problem}}).splitlines()
    assert lines[2] == "| 256 | blocks | 7 | 29 | 29 |"
    assert lines[3] == "| 4,096 | none | does not fit, 41.50 of 15.75 GiB needed | | |"
    assert {line.count("|") for line in lines} == {6}


@pytest.mark.parametrize("row", [*ROWS, *REMAT_ROWS])
def test_every_row_is_a_valid_command(row):
    command = parse_train(["--dry-run", "--config", *row.split()])
    assert command.topology
    assert command.config.data.max_length == command.config.data.row_length


def test_row_that_does_not_fit_is_recorded(monkeypatch):
    def refuse(config, name):
        raise InputError("too large")

    monkeypatch.setattr(topologies, "compile_for_topology", refuse)
    monkeypatch.setattr(topologies.metadata, "version", lambda package: "7")
    assert compile_row(ROWS[0]) == {"problem": "too large", "versions": {"jax": "7", "libtpu": "7"}}
