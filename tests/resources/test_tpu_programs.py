"""Every program compiles for TPU, with the TPU's own compiler.

All tests that need libtpu are in this file, so that one process runs them: the compiler uses all cores.
"""

import dataclasses
import importlib.util
import math
import re
from functools import cache

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import SingleDeviceSharding

from transformer_jax.attention.capture import _teacher_forced_pass
from transformer_jax.commands.train import main
from transformer_jax.config import (
    Config,
    DataConfig,
    MeshConfig,
    ModelConfig,
    TokenizerConfig,
    TrainingConfig,
)
from transformer_jax.data.batches import BatchShape
from transformer_jax.decoding.sampling import RandomSampling
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.resources.programs import (
    compile_evaluation,
    compile_program,
    compile_search,
    compile_step,
    shapes_for,
)
from transformer_jax.resources.topologies import find_topology, topology_names
from transformer_jax.sharding import make_mesh
from transformer_jax.training.compiled import abstract_batch
from transformer_jax.training.loss import CHUNK_SIZES

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='libtpu is not installed: pip install "jax[tpu]"'
)

V, LENGTH = 88, 16
CONFIG = Config(
    model=ModelConfig(d_model=32, d_ff=64, heads=4, encoder_layers=1, decoder_layers=1),
    data=DataConfig(batch_tokens=48 * LENGTH, max_length=LENGTH),
    tokenizer=TokenizerConfig(size=V),
    training=TrainingConfig(ema=0.9),
)
MESHES = {
    "data": MeshConfig(8, 1, 1),
    "fsdp": MeshConfig(1, 8, 1),
    "tensor": MeshConfig(1, 1, 8),
    "data-tensor": MeshConfig(2, 1, 4),
    "all": MeshConfig(2, 2, 2),
}
VARIANTS = {
    "plain": {},
    "r-drop": {"training": {"r_drop": 4.0}},
    "accumulate": {"training": {"accumulate": 3}},
    "bfloat16": {"model": {"dtype": "bfloat16"}},
    "bfloat16-r-drop": {"model": {"dtype": "bfloat16"}, "training": {"r_drop": 4.0}},
    "bfloat16-accumulate": {"model": {"dtype": "bfloat16"}, "training": {"accumulate": 3}},
    "remat": {"training": {"remat": "blocks"}},
    "bfloat16-remat-accumulate": {"model": {"dtype": "bfloat16"}, "training": {"remat": "blocks", "accumulate": 3}},
    "pre-norm": {"model": {"norm": "pre", "share_embeddings": "none", "biases": "all"}},
}
"""Name -> config fields to change. Each variant is compiled on every mesh."""
IN_CI = {("fsdp", "bfloat16")}
"""The training steps that are compiled in every run of the tests. The others are slow tests."""


@pytest.fixture(scope="module", autouse=True)
def real_compilation():
    """Compile as train.py does: with optimizations, and without a cache, from which JAX cannot load TPU programs."""
    for of_tests in (False, True):
        jax.config.update("jax_disable_most_optimizations", of_tests)
        jax.config.update("jax_enable_compilation_cache", of_tests)
        compilation_cache.reset_cache()
        if not of_tests:
            yield


@cache
def mesh_of(name):
    return make_mesh(MESHES[name], find_topology("v5e:2x4").devices)


def changed(config, sections):
    return dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), **fields) for name, fields in sections.items()}
    )


@pytest.mark.parametrize(
    ("mesh", "variant"),
    [
        pytest.param(mesh, variant, marks=[] if (mesh, variant) in IN_CI else pytest.mark.slow)
        for mesh in MESHES
        for variant in VARIANTS
    ],
)
def test_training_step_compiles(mesh, variant):
    step = compile_step(changed(CONFIG, VARIANTS[variant]), mesh_of(mesh))
    assert 0 < step.program.arguments < step.total_memory
    if mesh == "data":  # Each gradient is summed once, after all loops.
        assert {collective.kind for collective in step.collectives} == {"all-reduce"}
        assert not any(collective.in_loop for collective in step.collectives)
    if mesh == "fsdp":  # Each weight is gathered once, in the type of the arithmetic, and each gradient is summed once.
        gathered = [collective for collective in step.collectives if collective.kind == "all-gather"]
        matrices = [leaf for leaf in jax.tree.leaves(shapes_for(CONFIG, step.mesh).state.params) if leaf.ndim == 2]
        if variant == "bfloat16":
            assert {collective.types for collective in gathered} == {("bf16",)}
            assert received(gathered) == sum(leaf.size for leaf in matrices)
        assert not any(collective.in_loop for collective in step.collectives)


def received(collectives):
    """Return the number of elements that each device receives."""
    return sum(math.prod(shape) for collective in collectives for shape in collective.result_shapes)


@pytest.mark.slow
def test_fsdp_scatters_the_sums_of_large_gradients():
    """The TPU compiler sums small gradients with an all-reduce, and large ones with half of the communication."""
    wide = changed(CONFIG, {"model": {"d_model": 512, "d_ff": 2048, "dtype": "bfloat16"}})
    step = compile_step(wide, mesh_of("fsdp"))
    scattered = [collective for collective in step.collectives if collective.kind == "reduce-scatter"]
    reduced = [collective for collective in step.collectives if collective.kind == "all-reduce"]
    matrices = [leaf for leaf in jax.tree.leaves(shapes_for(wide, step.mesh).state.params) if leaf.ndim == 2]
    assert received(scattered) >= sum(leaf.size for leaf in matrices) / 8
    assert received(reduced) < step.parameters / 50


@pytest.mark.slow
def test_step_with_a_loop_over_chunks_compiles(monkeypatch):
    monkeypatch.setitem(CHUNK_SIZES, "accelerator", 7)
    step = compile_step(CONFIG, mesh_of("all"))
    # The devices that share the vocabulary exchange sums in each chunk, but neither weights nor gradients.
    assert all(V // 2 not in shape for collective in step.collectives if collective.in_loop
               for shape in collective.result_shapes)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mesh", MESHES)
def test_evaluation_of_a_bucket_compiles(mesh, dtype):
    shape = BatchShape(rows=48, source=13, target=29)
    program = compile_evaluation(changed(CONFIG, {"model": {"dtype": dtype}}), mesh_of(mesh), shape)
    assert program.peak > 0


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_training_step_of_a_bucket_compiles(mesh):
    functions, shape = shapes_for(CONFIG, mesh_of(mesh)), BatchShape(rows=48, source=13, target=29)
    program = compile_program(functions.train_step.lower(functions.state, abstract_batch(shape, mesh_of(mesh))))
    assert program.peak > 0


@pytest.mark.parametrize(
    ("beam", "dtype"),
    [
        pytest.param(1, "float32", marks=pytest.mark.slow),
        pytest.param(1, "bfloat16", marks=pytest.mark.slow),
        pytest.param(4, "float32", marks=pytest.mark.slow),
        (4, "bfloat16"),
    ],
)
def test_search_compiles(beam, dtype):
    config = changed(CONFIG, {"model": {"dtype": dtype}, "decoding": {"beam": beam}})
    program = compile_search(config, mesh_of("all"), LENGTH)
    assert program.peak > 0
    assert not program.collectives


def on_one_device(shape, dtype=jnp.int32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=SingleDeviceSharding(mesh_of("data").devices.flat[0]))


def params_on_one_device(config):
    params = shapes_for(config, mesh_of("data")).state.params
    return jax.tree.map(lambda leaf: on_one_device(leaf.shape, leaf.dtype), params)


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [0, 5])
def test_sampling_compiles(top_k):
    assert compile_search(CONFIG, mesh_of("data"), LENGTH, RandomSampling(0.7, top_k)).peak > 0


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_capture_of_attention_compiles(dtype):
    config = changed(CONFIG, {"model": {"dtype": dtype}})
    source, target, number = on_one_device((1, 16)), on_one_device((1, 32)), on_one_device(())
    lowered = _teacher_forced_pass.lower(
        Transformer(config.model, V, V), params_on_one_device(config), source, target, target, number, number
    )
    assert compile_program(lowered).peak > 0


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
        (["--model.d-ff", str(2**24), "--model.d-model", "512"], "not enough memory for parameters, .* GiB available"),
    ],
)
def test_bad_input_is_refused_before_compilation(options, message):
    with pytest.raises(InputError, match=message):
        main([*OPTIONS, *options])


@pytest.mark.slow
def test_every_listed_topology_exists():
    for name in topology_names():
        devices = find_topology(name).devices
        assert len(devices) == math.prod(map(int, name.partition(":")[2].split("x")))


def test_installed_libtpu_leaves_the_tests_on_simulated_devices():
    assert [device.platform for device in jax.devices()] == ["cpu"] * 8
