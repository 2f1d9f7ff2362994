"""Every program compiles for TPU, with the TPU's own compiler.

All tests that need libtpu are in this file, so that one process runs them: the compiler uses all cores.
"""

import importlib.util
import math
import re

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from benchmarks.attention_kernels import Case, measure
from benchmarks.tpu_programs import CELLS, CONFIG, ONE_DEVICE, VOCAB_SIZE, Cell, changed, compile_cell, tpu_mesh
from transformer_jax.commands.train import main
from transformer_jax.errors import InputError
from transformer_jax.resources import programs
from transformer_jax.resources.programs import compile_step, shapes_for
from transformer_jax.resources.topologies import find_topology, topology_names
from transformer_jax.training.loss import CHUNK_SIZES

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='libtpu is not installed: pip install "jax[tpu]"'
)

IN_CI = {
    Cell("beam 4: decode_some", "bfloat16", ONE_DEVICE),
    Cell("capture of attention", "float32", ONE_DEVICE),
}
"""The programs that are compiled in every run of the tests. The others are slow tests."""


@pytest.fixture(scope="module", autouse=True)
def real_compilation():
    """Compile as train.py does: with optimizations, and without a cache, from which JAX cannot load TPU programs."""
    for of_tests in (False, True):
        jax.config.update("jax_disable_most_optimizations", of_tests)
        jax.config.update("jax_enable_compilation_cache", of_tests)
        compilation_cache.reset_cache()
        if not of_tests:
            yield


@pytest.mark.parametrize(
    "cell", [pytest.param(cell, id=cell.name, marks=[] if cell in IN_CI else pytest.mark.slow) for cell in CELLS]
)
def test_program_compiles(cell):
    program = compile_cell(cell)
    assert program.peak > 0
    if cell.mesh == ONE_DEVICE:
        assert not program.collectives
    if cell.mesh == "data 8":  # Each gradient is summed once, after all loops.
        assert {collective.kind for collective in program.collectives} == {"all-reduce"}
    if cell.mesh in ("data 8", "fsdp 8"):
        assert not any(collective.in_loop for collective in program.collectives)


def test_fsdp_gathers_each_weight_once_in_the_type_of_the_arithmetic():
    step = compile_step(changed(CONFIG, {"model": {"dtype": "bfloat16"}}), tpu_mesh("fsdp 8"))
    gathered = [collective for collective in step.collectives if collective.kind == "all-gather"]
    matrices = [leaf for leaf in jax.tree.leaves(shapes_for(CONFIG, step.mesh).state.params) if leaf.ndim == 2]
    assert {collective.types for collective in gathered} == {("bf16",)}
    assert received(gathered) == sum(leaf.size for leaf in matrices)


def received(collectives):
    """Return the number of elements that each device receives."""
    return sum(math.prod(shape) for collective in collectives for shape in collective.result_shapes)


@pytest.mark.slow
def test_fsdp_scatters_the_sums_of_large_gradients():
    """The TPU compiler sums small gradients with an all-reduce, and large ones with half of the communication."""
    wide = changed(CONFIG, {"model": {"d_model": 512, "d_ff": 2048, "dtype": "bfloat16"}})
    step = compile_step(wide, tpu_mesh("fsdp 8"))
    scattered = [collective for collective in step.collectives if collective.kind == "reduce-scatter"]
    reduced = [collective for collective in step.collectives if collective.kind == "all-reduce"]
    matrices = [leaf for leaf in jax.tree.leaves(shapes_for(wide, step.mesh).state.params) if leaf.ndim == 2]
    assert received(scattered) >= sum(leaf.size for leaf in matrices) / 8
    assert received(reduced) < step.parameters / 50


@pytest.mark.slow
def test_step_with_a_loop_over_chunks_compiles(monkeypatch):
    monkeypatch.setitem(CHUNK_SIZES, "accelerator", 7)
    step = compile_step(CONFIG, tpu_mesh("data 2, fsdp 2, tensor 2"))
    # The devices that share the vocabulary exchange sums in each chunk, but neither weights nor gradients.
    assert all(VOCAB_SIZE // 2 not in shape for collective in step.collectives if collective.in_loop
               for shape in collective.result_shapes)  # fmt: skip


@pytest.mark.parametrize("kernel", ["xla", pytest.param("pallas", marks=pytest.mark.slow)])
def test_benchmark_of_attention_kernels_measures_a_step(kernel):
    measured = measure(Case("step", 16, kernel), changed(CONFIG, {"model": {"dtype": "bfloat16"}}))
    assert measured["temporary"] > 0
    assert measured["accessed"] > 0


# The command

OPTIONS = [
    *("--dry-run", "--topology", "v5e:2x2", "--model.d-model", "32", "--model.d-ff", "64", "--model.heads", "4"),
    *("--model.encoder-layers", "1", "--model.decoder-layers", "1", "--tokenizer.size", "300"),
    *("--data.max-length", "16", "--data.row-length", "16", "--data.batch-tokens", "768"),
]


def test_dry_run_reports_all_programs(capsys, tmp_path):
    main([*OPTIONS, "--workdir", str(tmp_path / "run"), "--mesh.fsdp", "2"])
    printed = capsys.readouterr().out
    assert "v5e:2x2: 4 x TPU v5e, 1 host\n" in printed
    assert "data 2, fsdp 2, tensor 1: 4 devices" in printed
    rows = dict(re.findall(r"^  (\S.*?)  +(.*)$", printed, re.MULTILINE))
    assert float(rows["temporary (gradients, activations)"]) > 0
    assert rows["all-gather"].startswith("f32")
    assert rows["TPU v5e"].endswith("yes")
    for program in ("training step", "evaluation", "beam search, beam size 4"):
        assert re.fullmatch(r"([\d.,]+ +){5}s", rows[program])
    assert not (tmp_path / "run").exists()


def test_step_that_does_not_fit_is_refused_with_what_would():
    with pytest.raises(InputError, match=r"^the training step with 4194304 rows of 16 tokens does not fit .*v5e:2x2: "):
        main([*OPTIONS, "--data.batch-tokens", str(2**26)])


@pytest.mark.slow
def test_fit_finds_a_batch_that_fits(capsys):
    main([*OPTIONS, "--fit", "--data.batch-tokens", str(2**26)])
    [tokens] = re.findall(r"^The largest batch that fits: --data.batch-tokens (\d+)$", capsys.readouterr().out, re.M)
    assert 2**16 < int(tokens) < 2**26
    assert int(tokens) % 64 == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mesh.data", "3"], "the mesh data=3 fsdp=1 tensor=1 does not match the number of devices, 4. Set .* is 4"),
        (["--data.batch-tokens", "32"], "the number of rows of 16 tokens in data.batch_tokens 32 is 2, but"),
        (["--topology", "v5e:3x3"], "the topology v5e:3x3 does not exist. Did you mean --topology v5e:"),
        (
            ["--model.dtype", "float16"],
            "model.dtype float16 is not supported on TPU v5 lite. Set --model.dtype bfloat16.",
        ),
        (["--model.attention", "cudnn"], "model.attention cudnn needs an NVIDIA GPU of .* Set --model.attention xla"),
        (
            ["--model.attention", "pallas", "--mesh.tensor", "4", "--model.heads", "2"],
            "that divides model.heads 2, not 4",
        ),
        (["--model.d-ff", str(2**24), "--model.d-model", "512"], "not enough memory for parameters, .* GiB available"),
    ],
)
def test_bad_input_is_refused_before_compilation(options, message, monkeypatch):
    monkeypatch.setattr(programs, "compile_program", None)  # A call would fail.
    with pytest.raises(InputError, match=message):
        main([*OPTIONS, *options])


@pytest.mark.slow
def test_every_listed_topology_exists():
    for name in topology_names():
        devices = find_topology(name).devices
        assert len(devices) == math.prod(map(int, name.partition(":")[2].split("x")))


def test_installed_libtpu_leaves_the_tests_on_simulated_devices():
    assert [device.platform for device in jax.devices()] == ["cpu"] * 8
