"""Memory of attention with XLA and with the Pallas kernel, by the TPU compiler.

    python -m benchmarks.attention_kernels                      # all rows; takes about 15 minutes on 2 cores
    python -m benchmarks.attention_kernels --only "step, 1,024"    # the rows whose name contains this text

It needs libtpu: pip install "jax[tpu]". The rows are stored in benchmarks/results/attention_kernels_tpu.json. The
tables in docs/memory.md are built from this file. Speed cannot be measured without a TPU, and the compiler has no
estimate for Pallas kernels.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.recorded_table import ROOT, RecordedTable, Records, update_tables
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.recipe import find_recipe, load_recipe
from transformer_jax.config import Config, MeshConfig
from transformer_jax.model.attention import KeysValues, attend
from transformer_jax.model.fused_attention import fused_attention
from transformer_jax.model.masks import SegmentMask
from transformer_jax.resources.programs import OutOfMemory, Program, compile_program, compile_step
from transformer_jax.resources.topologies import find_topology
from transformer_jax.sharding import batch_sharding, make_mesh

TOPOLOGY = "v5e:1x1"
BATCH_TOKENS = 24_576
LENGTHS = (64, 256, 1024, 4096)
KERNELS: tuple[Literal["xla", "pallas"], ...] = ("xla", "pallas")
MIB, GB = 2**20, 1e9


class Case(NamedTuple):
    """A program to compile.

    part: one causal attention with its gradients, or a training step of BASE with one layer per stack.
    length: row length in tokens.
    kernel: value of model.attention.
    """

    part: str
    length: int
    kernel: Literal["xla", "pallas"]

    @property
    def name(self) -> str:
        """The key of the record."""
        return f"{self.part}, {self.length:,}, {self.kernel}"


CASES = {
    part: [Case(part, length, kernel) for length in LENGTHS for kernel in KERNELS] for part in ("attention", "step")
}


def measure(case: Case, config: Config) -> dict[str, Any]:
    """Compile the program of a case. Return its memory, and the CPU time of the compilation.

    config: the recipe.
    """
    jax.config.update("jax_enable_compilation_cache", False)  # JAX cannot load a program for a missing device.
    model = dataclasses.replace(config.model, attention=case.kernel, encoder_layers=1, decoder_layers=1)
    data = dataclasses.replace(config.data, max_length=case.length, row_length=case.length)
    config = dataclasses.replace(config, model=model, data=data)
    mesh = make_mesh(MeshConfig(), find_topology(TOPOLOGY).devices)
    versions = {package: metadata.version(package) for package in ("jax", "libtpu")}
    try:
        program = compile_attention(config, mesh) if case.part == "attention" else compile_step(config, mesh).program
    except OutOfMemory as problem:
        return {"needed": problem.needed, "available": problem.available, "versions": versions}
    return {
        "temporary": program.temporary,
        "accessed": program.accessed,
        "estimated_seconds": program.estimated_seconds,
        "compile_cpu_seconds": round(program.cpu_seconds),
        "versions": versions,
    }


def compile_attention(config: Config, mesh: Mesh) -> Program:
    """Compile causal self-attention of projected heads, with its gradients."""

    def values_and_gradients(query: Any, keys: Any, values: Any, segments: Any, gradient: Any) -> Any:
        mask = SegmentMask(segments, segments, causal=True)

        def apply(query: Any, keys: Any, values: Any) -> Any:
            if config.model.attention == "pallas":
                return fused_attention("pallas", query, keys, values, mask)
            return attend(query, KeysValues(keys, values), mask.to_boolean())

        output, pullback = jax.vjp(apply, query, keys, values)
        return output, pullback(gradient)

    rows, length = config.data.batch_tokens // config.data.row_length, config.data.row_length
    sharding = batch_sharding(mesh)
    shape = rows, length, config.model.heads, config.model.d_model // config.model.heads
    heads = jax.ShapeDtypeStruct(shape, jnp.dtype(config.model.dtype), sharding=sharding)
    segments = jax.ShapeDtypeStruct((rows, length), np.int32, sharding=sharding)
    return compile_program(jax.jit(values_and_gradients).lower(heads, heads, heads, segments, heads))


def table(part: str, records: Records) -> str:
    """Return the Markdown table of a part."""
    columns = (
        "row length | `xla`: MiB | `pallas`: MiB | `xla`: GB accessed | `pallas`: GB accessed | estimate for `xla`"
    )
    lines = [f"| {columns} |", "|---|---|---|---|---|---|"]
    for length in LENGTHS:
        by_kernel = [records.get(Case(part, length, kernel).name) for kernel in KERNELS]
        if None in by_kernel:
            continue
        memory = [_memory(values or {}) for values in by_kernel]
        accessed = [f"{values['accessed'] / GB:.2f}" if values and "accessed" in values else "" for values in by_kernel]
        estimate = (by_kernel[0] or {}).get("estimated_seconds")
        milliseconds = f"{1e3 * estimate:.1f} ms" if estimate else "none"
        lines.append(f"| {length:,} | {' | '.join([*memory, *accessed])} | {milliseconds} |")
    return "\n".join(lines) + "\n"


def _memory(values: dict[str, Any]) -> str:
    if "needed" in values:
        return f"does not fit ({values['needed'] / MIB:,.0f} needed)"
    return f"{values['temporary'] / MIB:,.0f}"


RECORD = Path("benchmarks/results/attention_kernels_tpu.json")
TABLES = [
    RecordedTable(
        Path("docs/memory.md"),
        f"attention_kernels {part}",
        [case.name for case in cases],
        partial(table, part),
    )
    for part, cases in CASES.items()
]


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Compile the programs and rebuild the tables, or check the tables. See ``update_tables``."""
    recipe = load_recipe(find_recipe("wmt14_base"))
    config = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, batch_tokens=BATCH_TOKENS))
    by_name = {case.name: case for cases in CASES.values() for case in cases}
    update_tables(
        arguments, "benchmarks.attention_kernels", RECORD, TABLES, lambda name: measure(by_name[name], config), root
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
