"""The tables of attention kernels are built from compiled programs."""

import pytest

from benchmarks import attention_kernels
from benchmarks.attention_kernels import CASES, Case, main, measure, table
from transformer_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig
from transformer_jax.resources.programs import OutOfMemory
from transformer_jax.resources.topologies import Topology

CONFIG = Config(
    model=ModelConfig(d_model=24, d_ff=40, heads=4, dtype="bfloat16"),
    data=DataConfig(batch_tokens=192),
    tokenizer=TokenizerConfig(size=88),
)


@pytest.fixture(autouse=True)
def simulated_slice(monkeypatch):
    """Compile for the CPUs of this machine, with versions of packages that need not be installed."""
    import jax

    devices = Topology("v5e:2x4", jax.devices(), "cpu", None)
    monkeypatch.setattr(attention_kernels, "find_topology", lambda name: devices)
    monkeypatch.setattr(attention_kernels.metadata, "version", lambda package: "7")
    cache = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", cache)


def test_tables_of_this_checkout_match_their_record():
    main(["--check"])


@pytest.mark.parametrize("part", ["attention", "step"])
def test_longer_rows_need_more_memory_with_xla(part):
    short, long = (measure(Case(part, length, "xla"), CONFIG) for length in (4, 12))
    assert 0 < short["temporary"] < long["temporary"]
    assert 0 < short["accessed"] < long["accessed"]


def test_program_that_does_not_fit_is_recorded(monkeypatch):
    def refuse(config, mesh):
        assert config.data.max_length == 12
        raise OutOfMemory(7, 5)

    monkeypatch.setattr(attention_kernels, "compile_step", refuse)
    measured = measure(Case("step", 12, "pallas"), CONFIG)
    assert measured == {"needed": 7, "available": 5, "versions": {"jax": "7", "libtpu": "7"}}


def test_table_has_a_line_per_row_length():
    by_kernel = {
        "xla": {"temporary": 3 * 2**20, "accessed": 5e9, "estimated_seconds": 0.007},
        "pallas": {"needed": 11 * 2**20, "available": 2**20},
    }
    lines = table("step", {case.name: by_kernel[case.kernel] for case in CASES["step"][:2]}).splitlines()
    assert lines[2:] == ["| 64 | 3 | does not fit (11 needed) | 5.00 |  | 7.0 ms |"]
    assert {line.count("|") for line in lines} == {7}
