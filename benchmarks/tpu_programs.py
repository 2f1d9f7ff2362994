"""Memory of every program of this package on 8 TPU devices, by the TPU compiler.

    python -m benchmarks.tpu_programs                    # all programs; takes about ten minutes on 2 cores
    python -m benchmarks.tpu_programs --only "beam 4"    # the programs whose name contains this text

It needs libtpu: pip install "jax[tpu]". The programs are stored in benchmarks/results/tpu_programs.json. The table in
docs/tpu-programs.md is built from this file. tests/resources/test_tpu_programs.py compiles the same programs.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.recorded_table import RecordedTable, Records, update_tables
from transformer_jax.attention.capture import _teacher_forced_pass
from transformer_jax.commands.cli import run_command
from transformer_jax.config import (
    Config,
    DataConfig,
    DecodingConfig,
    MeshConfig,
    ModelConfig,
    TokenizerConfig,
    TrainingConfig,
)
from transformer_jax.data.batches import BatchShape
from transformer_jax.decoding.beam import BeamSearch
from transformer_jax.decoding.lowering import params_on_device
from transformer_jax.decoding.sampling import GreedySearch, RandomSampling
from transformer_jax.decoding.search import FEW, HYPOTHESES, MARGIN
from transformer_jax.decoding.slot_loop import LoopShape
from transformer_jax.decoding.slots import SearchMethod
from transformer_jax.model.transformer import Transformer
from transformer_jax.resources.programs import (
    Program,
    compile_evaluation,
    compile_loop,
    compile_program,
    compile_step,
    shapes_for,
)
from transformer_jax.resources.topologies import find_topology
from transformer_jax.sharding import make_mesh
from transformer_jax.training.compiled import abstract_batch

KIB = 2**10

VOCAB_SIZE, LENGTH = 88, 16
CONFIG = Config(
    model=ModelConfig(d_model=32, d_ff=64, heads=4, encoder_layers=1, decoder_layers=1),
    data=DataConfig(batch_tokens=48 * LENGTH, max_length=LENGTH),
    tokenizer=TokenizerConfig(size=VOCAB_SIZE),
    training=TrainingConfig(ema=0.9),
    decoding=DecodingConfig(beam=4),
)
"""A model that compiles in seconds."""
BUCKET = BatchShape(rows=48, source=13, target=29)
TOPOLOGY = "v5e:2x4"
ONE_DEVICE = "one device"
MESHES = {
    "data 8": MeshConfig(8, 1, 1),
    "fsdp 8": MeshConfig(1, 8, 1),
    "tensor 8": MeshConfig(1, 1, 8),
    "data 2, tensor 4": MeshConfig(2, 1, 4),
    "data 2, fsdp 2, tensor 2": MeshConfig(2, 2, 2),
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "float32": {},
    "bfloat16": {"model": {"dtype": "bfloat16"}},
    "R-Drop": {"training": {"r_drop": 4.0}},
    "R-Drop, bfloat16": {"model": {"dtype": "bfloat16"}, "training": {"r_drop": 4.0}},
    "accumulate 3": {"training": {"accumulate": 3}},
    "accumulate 3, bfloat16": {"model": {"dtype": "bfloat16"}, "training": {"accumulate": 3}},
    "remat": {"training": {"remat": "blocks"}},
    "remat, accumulate 3, bfloat16": {
        "model": {"dtype": "bfloat16"},
        "training": {"remat": "blocks", "accumulate": 3},
    },
    "pre-norm, separate embeddings, all biases": {
        "model": {"norm": "pre", "share_embeddings": "none", "biases": "all"}
    },
    "pallas, bfloat16": {"model": {"dtype": "bfloat16", "attention": "pallas"}},
    "pallas, remat, float32": {"model": {"attention": "pallas"}, "training": {"remat": "blocks"}},
}
"""Name -> config fields to change."""
TYPES = ("float32", "bfloat16")


class Cell(NamedTuple):
    """A program to compile.

    program: name in PROGRAMS.
    variant: name in VARIANTS.
    mesh: name in MESHES, or ONE_DEVICE.
    """

    program: str
    variant: str
    mesh: str

    @property
    def name(self) -> str:
        """The key of the record."""
        return " | ".join(self)


def record_cell(cell: Cell) -> dict[str, Any]:
    """Compile the program of a cell. Return its sizes in bytes, and the versions of the compiler."""
    # JAX cannot load a compiled program for devices that do not exist.
    jax.config.update("jax_enable_compilation_cache", False)
    program = compile_cell(cell)
    sizes = {name: getattr(program, name) for name in ("arguments", "temporary", "code", "peak")}
    versions = {package: metadata.version(package) for package in ("jax", "libtpu")}
    return {**sizes, "versions": versions}


def compile_cell(cell: Cell) -> Program:
    """Compile the program of a cell."""
    config = changed(CONFIG, VARIANTS[cell.variant])
    return PROGRAMS[cell.program](config, tpu_mesh("data 8" if cell.mesh == ONE_DEVICE else cell.mesh))


def changed(config: Config, sections: Mapping[str, Mapping[str, Any]]) -> Config:
    """Return the config with other values for some fields."""
    return dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), **fields) for name, fields in sections.items()}
    )


@cache
def tpu_mesh(name: str) -> Mesh:
    """Return a mesh of MESHES with the devices of the TPU slice."""
    return make_mesh(MESHES[name], find_topology(TOPOLOGY).devices)


def compile_step_of_rows(config: Config, mesh: Mesh) -> Program:
    """Compile the training step for packed rows."""
    return compile_step(config, mesh).program


def compile_step_of_bucket(config: Config, mesh: Mesh) -> Program:
    """Compile the training step for a bucket."""
    functions = shapes_for(config, mesh)
    return compile_program(functions.train_step.lower(functions.state, abstract_batch(BUCKET, mesh)))


def compile_evaluation_of_bucket(config: Config, mesh: Mesh) -> Program:
    """Compile the validation loss of a bucket."""
    return compile_evaluation(config, mesh, BUCKET)


def compile_decoding(method: SearchMethod, name: str, config: Config, mesh: Mesh) -> Program:
    """Compile a program of a decoding loop.

    name: name of the program, see ``compile_loop``.
    """
    slots = FEW if name == "decode_all" else HYPOTHESES["accelerator"] // method.beam_size
    shape = LoopShape(slots, LENGTH, LENGTH + MARGIN)
    return compile_loop(config, mesh, method, shape, name)


def compile_capture(config: Config, mesh: Mesh) -> Program:
    """Compile the pass that returns the attention of all heads."""
    model = Transformer(config.model, VOCAB_SIZE, VOCAB_SIZE)
    params = params_on_device(shapes_for(config, mesh).state.params, mesh.devices.flat[0])
    source, target = np.zeros((1, LENGTH), np.int32), np.zeros((1, 2 * LENGTH), np.int32)
    return compile_program(_teacher_forced_pass.lower(model, params, source, target, target, LENGTH, 2 * LENGTH))


SEARCHES: dict[str, tuple[SearchMethod, tuple[str, ...]]] = {
    "greedy": (GreedySearch(), TYPES),
    "beam 4": (BeamSearch(4, 0.6, 1), TYPES),
    "sampling": (RandomSampling(0.7, 0), TYPES[:1]),
    "sampling from 5": (RandomSampling(0.7, 5), TYPES[:1]),
}
"""Name -> method, and data types for which it is compiled."""
LOOP_PROGRAMS = ("decode_some", "decode_rest", "decode_all")
PROGRAMS: dict[str, Callable[[Config, Mesh], Program]] = {
    "training step": compile_step_of_rows,
    "training step of a bucket": compile_step_of_bucket,
    "evaluation of a bucket": compile_evaluation_of_bucket,
    **{
        f"{search}: {name}": partial(compile_decoding, method, name)
        for search, (method, _) in SEARCHES.items()
        for name in LOOP_PROGRAMS
    },
    "capture of attention": compile_capture,
}
"""Name -> function that compiles the program for a config and a mesh."""
CELLS = [
    *(
        Cell("training step", variant, mesh)
        for variant in VARIANTS
        for mesh in MESHES
        # Each device of a Pallas kernel needs complete heads.
        if "pallas" not in variant or CONFIG.model.heads % MESHES[mesh].tensor == 0
    ),
    *(Cell("training step of a bucket", "float32", mesh) for mesh in MESHES),
    *(Cell("evaluation of a bucket", variant, mesh) for variant in TYPES for mesh in MESHES),
    *(
        Cell(f"{search}: {name}", variant, ONE_DEVICE)
        for search, (_, types) in SEARCHES.items()
        for variant in types
        for name in LOOP_PROGRAMS
    ),
    *(Cell("capture of attention", variant, ONE_DEVICE) for variant in TYPES),
]


def table(records: Records) -> str:
    """Return the Markdown table of the recorded programs: the size of arguments and temporary memory per device."""
    columns = (*MESHES, ONE_DEVICE)
    lines = [f"| program | variant | {' | '.join(columns)} |", f"|{'---|' * (2 + len(columns))}"]
    for program, variant in dict.fromkeys(cell[:2] for cell in CELLS):
        cells = []
        for mesh in columns:
            sizes = records.get(Cell(program, variant, mesh).name)
            cells.append(f"{sizes['arguments'] / KIB:,.0f} + {sizes['temporary'] / KIB:,.0f}" if sizes else "")
        lines.append(f"| {program} | {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


BY_NAME = {cell.name: cell for cell in CELLS}
RECORD = Path("benchmarks/results/tpu_programs.json")
TABLE = RecordedTable(Path("docs/tpu-programs.md"), "tpu_programs", list(BY_NAME), table)


def main(arguments: list[str]) -> None:
    """Compile the programs and rebuild the table, or check the table."""
    update_tables(arguments, "benchmarks.tpu_programs", RECORD, [TABLE], lambda name: record_cell(BY_NAME[name]))


if __name__ == "__main__":
    sys.exit(run_command(main))
