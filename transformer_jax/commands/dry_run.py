"""The training step on devices that need not be there: compiled for pretended ones, measured, never run.

python train.py --dry-run --config configs/wmt14_big.py --mesh.data 8 --mesh.fsdp 4
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from transformer_jax.config import Config, MeshConfig
from transformer_jax.data.batches import Batch, BatchShape
from transformer_jax.model.flops import training_flops
from transformer_jax.runtime.memory import bytes_per_device, device_memory
from transformer_jax.sharding import batch_multiple, batch_sharding, make_mesh
from transformer_jax.training.compiled import jit_functions, require_enough_rows
from transformer_jax.training.loss import CHUNK_SIZES, forward_passes

MIB = 2**20


class Chip(NamedTuple):
    """What a data sheet promises.

    flops: dense bfloat16 operations a second; memory: bytes; bandwidth: bytes a second of that memory; links: bytes a
    second that leave the chip for its neighbours, half of the sheet's bidirectional figure.
    """

    flops: float
    memory: float
    bandwidth: float
    links: float


CHIPS = {
    # NVIDIA's data sheets of the H100 and H200 (SXM): bfloat16 without sparsity, NVLink 900 GB/s both ways.
    "H100": Chip(989e12, 80e9, 3.35e12, 450e9),
    "H200": Chip(989e12, 141e9, 4.8e12, 450e9),
    # https://docs.cloud.google.com/tpu/docs/v5e, v5p and v6e: interconnect 400, 1,200 and 800 GB/s both ways.
    "TPU v5e": Chip(197e12, 16e9, 819e9, 200e9),
    "TPU v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9),
    "TPU v6e": Chip(918e12, 32e9, 1638e9, 400e9),
}


class Collective(NamedTuple):
    """An operation in which devices exchange data.

    results: dimensions of the arrays that a device then holds; sent: bytes that a device sends, each time; times: in
    one step; looped: whether a loop runs it again and again.
    """

    kind: str
    results: list[tuple[int, ...]]
    sent: int
    times: int
    looped: bool


class Report(NamedTuple):
    """What a step takes; bytes are those of one device, operations those of all together."""

    mesh: Mesh
    shape: BatchShape
    parameters: int
    flops: int
    memory: dict[str, int]
    collectives: list[Collective]


def dry_run(config: Config) -> None:
    """Compile the step that ``config`` describes and print what it takes, without data, tokenizer or parameters.

    With a size for every mesh axis the devices are pretended, on the CPU; with -1 they are those that are there.
    """
    pretend_devices(config.mesh)
    report = compile_step(config, make_mesh(config.mesh))
    print("\n".join(lines(report)))
    if -1 in (config.mesh.data, config.mesh.fsdp, config.mesh.tensor) and (there := device_memory()):
        total = sum(report.memory.values())
        verdict = "fits" if total <= there else "does not fit: raise --mesh.fsdp or lower --data.batch-tokens"
        print(f"\nA device here has {there / MIB:,.0f} MiB: {verdict}.")


def pretend_devices(mesh: MeshConfig) -> None:
    """Let as many CPU devices appear as the mesh has places; before anything else touches the devices."""
    sizes = (mesh.data, mesh.fsdp, mesh.tensor)
    if min(sizes) > 0:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", math.prod(sizes))


def compile_step(config: Config, mesh: Mesh) -> Report:
    """Compile for the largest batch that the settings allow, with vocabularies as large as the tokenizer may make them.

    Raises InputError if the rows of that batch cannot be divided over the mesh.
    """
    words, length = config.tokenizer.size, config.data.max_length
    parts = batch_multiple(mesh) * config.training.accumulate
    require_enough_rows(config, parts, length)
    shape = BatchShape(config.data.batch_tokens // length // parts * parts, length, length)
    functions = jit_functions(config, mesh, words, words, CHUNK_SIZES["accelerator"])
    rows: Any = jax.ShapeDtypeStruct((shape.rows, length), np.int32, sharding=batch_sharding(mesh))
    batch = Batch(*[rows] * len(Batch._fields))
    compiled = functions.train_step.lower(functions.state, batch).compile()
    inputs = {
        "parameters": functions.state.params,
        "optimizer state and average": functions.state._replace(params=None),
        "batch": batch,
    }
    held = {name: bytes_per_device(tree) for name, tree in inputs.items()}
    return Report(
        mesh,
        shape,
        sum(leaf.size for leaf in jax.tree.leaves(functions.state.params)),
        forward_passes(config.training.r_drop)
        * shape.rows
        * training_flops(config.model, words, shape.source, shape.target),
        {**held, "gradients and activations": compiled.memory_analysis().temp_size_in_bytes},
        collectives(compiled.as_text()),
    )


COLLECTIVE = re.compile(r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
ARRAY = re.compile(r"([a-z]+)(\d*)\[([\d,]*)\]")
CALLED = re.compile(r"(?:to_apply|calls|body|condition|branch_computations)=\{?(%[^,}\s]+(?:, %[^,}\s]+)*)")


def collectives(hlo: str) -> list[Collective]:
    """All collectives of an optimized program; a loop counts as often as the compiler knows it to turn."""
    computations = dict(re.findall(r"^(?:ENTRY )?(%\S+) .*?\{\n(.*?)^\}", hlo, re.MULTILINE | re.DOTALL))
    [entry] = re.findall(r"^ENTRY (%\S+)", hlo, re.MULTILINE)

    def within(name: str, times: int, looped: bool) -> Iterator[Collective]:
        for line in computations[name].splitlines():
            turns = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            again = int(turns[1]) if turns else 1
            for called in ", ".join(CALLED.findall(line)).split(", "):
                if called:
                    yield from within(called, times * again, looped or " while(" in line)
            if found := COLLECTIVE.search(line):
                yield _collective(found[2], found[1], _group(line), times, looped)

    return list(within(entry, 1, False))


def _collective(kind: str, result: str, group: int, times: int, looped: bool) -> Collective:
    """What a device sends when the group forms a ring, which is the least that it can send."""
    arrays = [
        (int(bits or 8) // 8, tuple(map(int, filter(None, sizes.split(",")))))
        for _, bits, sizes in ARRAY.findall(result)
    ]
    size = sum(width * math.prod(sizes) for width, sizes in arrays)
    others = (group - 1) / group
    sent = {
        "all-reduce": 2 * others * size,
        "all-gather": others * size,
        "reduce-scatter": (group - 1) * size,  # of which each device keeps the result's size
        "all-to-all": others * size,
        "collective-permute": size,
    }
    return Collective(kind, [sizes for _, sizes in arrays], round(sent[kind]), times, looped)


def _group(line: str) -> int:
    """How many devices exchange data with each other, from any of the forms in which XLA writes it."""
    if axes := re.search(r"replica_groups=mesh\[(.*?)\].*?\{(.*?)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
        named = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", axes[2])  # a part of an axis has its size written behind it
        return math.prod(int(part or sizes[name]) for name, part in named)
    if counts := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(counts[1])
    if members := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(members[1].split(","))
    return 1  # a permutation, which has pairs instead


def lines(report: Report) -> Iterator[str]:
    """The report as a table."""
    shape, total = report.shape, sum(report.memory.values())
    axes = ", ".join(f"{axis} {size}" for axis, size in report.mesh.shape.items())
    yield f"mesh            {axes}: {report.mesh.size} devices"
    yield f"batch           {shape.rows} rows of {shape.source} source and {shape.target} target tokens"
    yield f"parameters      {report.parameters / 1e6:,.1f} M"
    yield f"a step          {_short(report.flops / 1e12)} TFLOP in matrix products, forward and backward"
    yield ""
    yield f"{'memory of a device':<32}{'MiB':>10}"
    for name, size in {**report.memory, "together": total}.items():
        yield f"  {name:<30}{_short(size / MIB):>10}"
    yield ""
    yield f"{'sent by a device in a step':<32}{'MiB':>10}{'operations':>12}"
    sent = {each.kind: 0 for each in report.collectives}
    times = dict(sent)
    for each in report.collectives:
        sent[each.kind] += each.sent * each.times
        times[each.kind] += each.times
    for kind, size in sent.items():
        yield f"  {kind:<30}{_short(size / MIB):>10}{times[kind]:>12,}"
    yield f"  {'together':<30}{_short(sum(sent.values()) / MIB):>10}{sum(times.values()):>12,}"
    yield ""
    yield f"{'ms of a step, at least':<24}{'arithmetic':>12}{'memory':>12}{'links':>12}{'target tokens/s':>17}  fits"
    # The state is read and written once at least, and so is all that is computed from it.
    touched = 2 * (total - report.memory["batch"])
    for name, chip in CHIPS.items():
        parts = (
            report.flops / report.mesh.size / chip.flops,
            touched / chip.bandwidth,
            sum(sent.values()) / chip.links,
        )
        speed = shape.rows * shape.target / max(parts)
        row = "".join(f"{_short(1e3 * seconds):>12}" for seconds in parts)
        yield f"  {name:<22}{row}{speed:>17,.0f}  {'yes' if total <= chip.memory else 'no'}"
    yield ""
    yield "Times are a bound, not a forecast: peaks of data sheets, the largest of three, padding counted as tokens."
    yield "Gradients, activations and what is sent are as the CPU's compiler has them: estimates for other chips."


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
