"""Estimated resources of a training step, which is compiled but not run.

python train.py --dry-run --config configs/wmt14_big.py --mesh.data 8 --mesh.fsdp 4    # simulated devices
python train.py --dry-run --config configs/wmt14_big.py --topology v5e:4x8 --mesh.fsdp 4    # the TPU compiler
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import jax

from transformer_jax.config import Config, MeshConfig
from transformer_jax.resources.batch_size import does_not_fit, largest_step
from transformer_jax.resources.chips import CHIPS, Chip
from transformer_jax.resources.collectives import Collective
from transformer_jax.resources.programs import (
    OutOfMemory,
    Program,
    StepReport,
    compile_evaluation,
    compile_search,
    compile_step,
    shapes_for,
)
from transformer_jax.resources.topologies import Topology, find_topology
from transformer_jax.runtime.dtype_support import check_dtype_support
from transformer_jax.runtime.memory import device_memory, require_state_memory
from transformer_jax.sharding import make_mesh

MIB = 2**20


def dry_run(config: Config) -> None:
    """Compile the training step of ``config`` and print its resources. No data, tokenizer or parameters are needed.

    If every mesh axis has a size, the devices are simulated on the CPU. If an axis is -1, existing devices are used.
    """
    simulate_devices(config.mesh)
    report = compile_step(config, make_mesh(config.mesh))
    print("\n".join(report_lines(report)))
    if -1 in (config.mesh.data, config.mesh.fsdp, config.mesh.tensor) and (available := device_memory()):
        total = sum(report.memory.values())
        problem = "The step does not fit. Raise --mesh.fsdp or lower --data.batch-tokens."
        verdict = "The step fits." if total <= available else problem
        print(f"\nA device of this machine has {available / MIB:,.0f} MiB of memory. {verdict}")


def topology_dry_run(config: Config, name: str, fit: bool) -> None:
    """Compile the training step, the evaluation and the search for a TPU slice, and print their resources.

    Arguments and errors: see ``compile_for_topology``.
    """
    step, topology = compile_for_topology(config, name, fit)
    print("\n".join(topology_lines(step, topology)), flush=True)
    if fit:
        print(f"\nThe largest batch that fits: --data.batch-tokens {step.shape.rows * step.shape.target}")
    search = f"beam search, beam size {config.decoding.beam}" if config.decoding.beam > 1 else "greedy search"
    programs = {
        "training step": lambda: step.program,
        "evaluation": lambda: compile_evaluation(config, step.mesh, step.shape),
        search: lambda: compile_search(config, step.mesh, config.data.max_length),
    }
    print("\n".join(program_lines({program: _or_problem(compile_) for program, compile_ in programs.items()})))


def compile_for_topology(config: Config, name: str, fit: bool = False) -> tuple[StepReport, Topology]:
    """Compile the training step for a TPU slice, and return its resources and the slice.

    name: name of the slice, see ``find_topology``.
    fit: find the largest batch that fits, instead of using that of the config.
    Raises InputError if the slice does not exist, if it lacks the data type, if the mesh does not match it, or if
    the model does not fit.
    """
    # JAX cannot load a compiled program for devices that do not exist.
    jax.config.update("jax_enable_compilation_cache", False)
    topology = find_topology(name)
    check_dtype_support(config.model.dtype, topology.devices[0])
    mesh, memory = make_mesh(config.mesh, topology.devices), int(topology.chip.memory)
    require_state_memory(mesh, shapes_for(config, mesh).state, memory)
    try:
        return largest_step(config, mesh, memory) if fit else compile_step(config, mesh), topology
    except OutOfMemory as problem:
        raise does_not_fit(config, mesh, problem, name) from problem


def simulate_devices(mesh: MeshConfig) -> None:
    """Create a CPU device for each position of the mesh. Call this before JAX initializes its devices."""
    sizes = (mesh.data, mesh.fsdp, mesh.tensor)
    if min(sizes) > 0:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", math.prod(sizes))


def report_lines(report: StepReport) -> Iterator[str]:
    """Yield the lines of the report on a step for simulated devices, with bounds for several chips."""
    yield from step_lines(report)
    bytes_sent, executions = dict[str, int](), dict[str, int]()
    for collective in report.collectives:
        kind, times = collective.kind, collective.executions
        bytes_sent[kind] = bytes_sent.get(kind, 0) + collective.bytes_sent * times
        executions[kind] = executions.get(kind, 0) + times
    yield f"{'sent per device and step':<36}{'MiB':>10}{'operations':>12}"
    for kind, size in bytes_sent.items():
        yield f"  {kind:<34}{_format(size / MIB):>10}{executions[kind]:>12,}"
    yield f"  {'total':<34}{_format(sum(bytes_sent.values()) / MIB):>10}{sum(executions.values()):>12,}"
    yield ""
    fits = {name: report.total_memory <= chip.memory for name, chip in CHIPS.items()}
    yield from bound_lines(report, CHIPS, fits)
    yield ""
    yield "The times are lower bounds, not predictions: they assume the peak rates of the data sheets. Tokens per"
    yield "second follow from the largest of the three and include padding. Temporary memory and communication are"
    yield "those of the CPU compiler, so they are estimates for other chips."


def topology_lines(report: StepReport, topology: Topology) -> Iterator[str]:
    """Yield the lines of the report on a step that the TPU compiler has compiled."""
    hosts = len({device.process_index for device in topology.devices})
    slice_ = f"{topology.name}: {len(topology.devices)} x {topology.chip_name}"
    yield f"topology        {slice_}, {hosts} host{'s' if hosts > 1 else ''}"
    yield from step_lines(report)
    columns = f"{'MiB':>10}{'operations':>12}{'in loops':>10}"
    yield f"{'sent per device and step':<24}{'type':<12}{columns}"
    by_kind: dict[tuple[str, str], list[Collective]] = {}
    for collective in report.collectives:
        by_kind.setdefault((collective.kind, ", ".join(collective.types)), []).append(collective)
    for (kind, types), collectives in {**by_kind, ("total", ""): report.collectives}.items():
        size = sum(collective.bytes_sent * collective.executions for collective in collectives)
        executions, in_loops = (
            sum(collective.executions for collective in collectives if collective.in_loop >= in_loop)
            for in_loop in (False, True)
        )
        yield f"  {kind:<22}{types:<12}{_format(size / MIB):>10}{executions:>12,}{in_loops:>10,}"
    yield ""
    # The compiler refuses a step that does not fit.
    yield from bound_lines(report, {topology.chip_name: topology.chip}, {topology.chip_name: True})
    yield ""
    yield "The times are lower bounds, not predictions: they assume the peak rates of the data sheet. Tokens per second"
    yield "follow from the largest of the three and include padding. All else comes from the TPU compiler."


def program_lines(programs: dict[str, Program | OutOfMemory]) -> Iterator[str]:
    """Yield a table of compiled programs. Those that do not fit have the error as value."""
    names = ("arguments", "temporary", "code", "peak")
    yield ""
    yield f"{'MiB per device':<28}{''.join(f'{name:>11}' for name in names)}{'compiled in':>13}"
    for name, program in programs.items():
        if isinstance(program, OutOfMemory):
            needed, available = program.needed / MIB, program.available / MIB
            yield f"  {name:<26}  does not fit: {needed:,.0f} of {available:,.0f} MiB needed"
            continue
        sizes = "".join(f"{_format(size / MIB):>11}" for size in program[:4])
        yield f"  {name:<26}{sizes}{program.seconds:>11.1f} s"


def _or_problem(compile_: Callable[[], Program]) -> Program | OutOfMemory:
    """Return the compiled program, or the error if it does not fit."""
    try:
        return compile_()
    except OutOfMemory as problem:
        return problem


def step_lines(report: StepReport) -> Iterator[str]:
    """Yield the sizes of the mesh, the batch and the model, and the memory of the step."""
    shape = report.shape
    axes = ", ".join(f"{axis} {size}" for axis, size in report.mesh.shape.items())
    yield f"mesh            {axes}: {report.mesh.size} devices"
    yield f"batch           {shape.rows} rows of {shape.source} source and {shape.target} target tokens"
    yield f"parameters      {report.parameters / 1e6:,.1f} M"
    yield f"compute         {_format(report.flops / 1e12)} TFLOP per step in matrix products, forward and backward"
    yield ""
    yield f"{'memory per device':<36}{'MiB':>10}"
    for purpose, size in {**report.memory, "total": report.total_memory}.items():
        yield f"  {purpose:<34}{_format(size / MIB):>10}"
    yield ""


def bound_lines(report: StepReport, chips: dict[str, Chip], fits: dict[str, bool]) -> Iterator[str]:
    """Yield a table of the minimum times per step on each chip, and of whether the step fits its memory."""
    yield f"{'minimum ms per step':<24}{'arithmetic':>12}{'memory':>12}{'links':>12}{'target tokens/s':>17}  fits"
    for name, chip in chips.items():
        times = minimum_seconds(report, chip)
        tokens_per_second = report.shape.rows * report.shape.target / max(times)
        columns = "".join(f"{_format(1e3 * seconds):>12}" for seconds in times)
        yield f"  {name:<22}{columns}{tokens_per_second:>17,.0f}  {'yes' if fits[name] else 'no'}"


def minimum_seconds(report: StepReport, chip: Chip) -> tuple[float, float, float]:
    """Return lower bounds on the time per step, from its arithmetic, its memory traffic and its communication."""
    # The state and everything computed from it are read and written at least once.
    accessed = 2 * (report.total_memory - report.memory["batch"])
    bytes_sent = sum(collective.bytes_sent * collective.executions for collective in report.collectives)
    return (
        report.flops / report.mesh.size / chip.flops,
        accessed / chip.memory_bandwidth,
        bytes_sent / chip.link_bandwidth,
    )


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
