"""The programs of a run, compiled for devices that may not exist: training step, evaluation and search."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from transformer_jax.config import Config
from transformer_jax.data.batches import BatchShape
from transformer_jax.decoding.beam import BeamSearch
from transformer_jax.decoding.lowering import lower_few, lower_many, params_on_device
from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.decoding.sampling import GreedySearch, RandomSampling
from transformer_jax.decoding.search import HYPOTHESES, MARGIN
from transformer_jax.decoding.slot_loop import LoopShape
from transformer_jax.decoding.slots import SearchMethod, SearchModel
from transformer_jax.model.flops import training_flops
from transformer_jax.model.fused_attention import require_kernel
from transformer_jax.model.transformer import Transformer
from transformer_jax.resources.collectives import Collective, find_collectives
from transformer_jax.runtime.memory import bytes_per_device
from transformer_jax.sharding import batch_multiple
from transformer_jax.training.compiled import CompiledFunctions, abstract_batch, jit_functions, require_enough_rows
from transformer_jax.training.loss import CHUNK_SIZES, forward_passes

TEMPORARY = "temporary (gradients, activations)"
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class OutOfMemory(Exception):
    """A program that does not fit the memory of a device, as the compiler states.

    needed, available: bytes per device; 0 if the compiler does not state them.
    """

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(needed, available)
        self.needed, self.available = needed, available


class Program(NamedTuple):
    """A compiled program. All sizes are bytes per device.

    arguments: size of the arguments.
    temporary: size of everything else that is in memory while the program runs, without code.
    code: size of the machine code.
    peak: the most memory in use at a time, as the compiler states it.
    accessed: size of the operands and results of all operations. Operations in a loop or kernel count once.
    estimated_seconds: the compiler's estimate of the run time; None if it has none, for example because of a loop.
    seconds: duration of the compilation.
    cpu_seconds: CPU time of the compilation, which depends less on the other work of the machine.
    collectives: collective operations of one device.
    """

    arguments: int
    temporary: int
    code: int
    peak: int
    accessed: int
    estimated_seconds: float | None
    seconds: float
    cpu_seconds: float
    collectives: list[Collective]


class StepReport(NamedTuple):
    """The resources of a training step.

    mesh: the devices.
    shape: shape of the batch.
    parameters: number of parameters of the model.
    flops: operations in matrix products, summed over all devices.
    memory: bytes per device, by purpose.
    program: the compiled step.
    """

    mesh: Mesh
    shape: BatchShape
    parameters: int
    flops: int
    memory: dict[str, int]
    program: Program

    @property
    def total_memory(self) -> int:
        """Bytes per device of everything but code."""
        return sum(self.memory.values())

    @property
    def collectives(self) -> list[Collective]:
        """Collective operations of one device."""
        return self.program.collectives


def compile_step(config: Config, mesh: Mesh) -> StepReport:
    """Compile the training step for the largest batch and vocabularies that the config allows. Return its resources.

    Raises InputError if the batch has fewer rows than data-parallel devices times accumulation steps.
    Raises OutOfMemory if the compiler knows the memory of the devices and the step does not fit.
    """
    require_kernel(config.model, mesh.devices.flat[0], mesh.shape["tensor"])
    vocab_size, length = config.tokenizer.size, config.data.max_length
    multiple = batch_multiple(mesh) * config.training.accumulate
    require_enough_rows(config, multiple, length)
    shape = BatchShape(config.data.batch_tokens // length // multiple * multiple, length, length)
    functions = shapes_for(config, mesh)
    batch = abstract_batch(shape, mesh)
    program = compile_program(functions.train_step.lower(functions.state, batch))
    inputs = {
        "parameters": functions.state.params,
        "optimizer state and average": functions.state._replace(params=None),
        "batch": batch,
    }
    memory = {name: bytes_per_device(tree) for name, tree in inputs.items()}
    flops_per_row = training_flops(config.model, vocab_size, shape.source, shape.target)
    return StepReport(
        mesh,
        shape,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(functions.state.params)),
        flops=forward_passes(config.training.r_drop) * shape.rows * flops_per_row,
        memory={**memory, TEMPORARY: program.temporary},
        program=program,
    )


def compile_evaluation(config: Config, mesh: Mesh, shape: BatchShape) -> Program:
    """Compile the loss of a validation batch of this shape."""
    functions = shapes_for(config, mesh)
    return compile_program(functions.loss_sums.lower(functions.state.eval_params, abstract_batch(shape, mesh)))


def compile_search(config: Config, mesh: Mesh, source_length: int) -> Program:
    """Compile the decoding loop of one device, with sources that are padded to ``source_length``."""
    beam_size, alpha = config.decoding.beam, config.decoding.length_penalty
    method = GreedySearch() if beam_size == 1 else BeamSearch(beam_size, alpha, 1)
    slots = max(1, HYPOTHESES["accelerator"] // beam_size)
    return compile_loop(config, mesh, method, LoopShape(slots, source_length, source_length + MARGIN), "decode_some")


def compile_loop(config: Config, mesh: Mesh, method: SearchMethod, shape: LoopShape, name: str) -> Program:
    """Compile a program of a decoding loop for one device of the mesh.

    name: name of the program, see ``lower_few`` and ``lower_many``.
    """
    vocab_size, has_keys = config.tokenizer.size, isinstance(method, RandomSampling)
    model = Transformer(dataclasses.replace(config.model, attention="xla"), vocab_size, vocab_size)
    params = params_on_device(shapes_for(config, mesh).state.params, mesh.devices.flat[0])
    search_model = SearchModel(model, params, SpecialIds(0, 1, 2, 3))
    lower = lower_few if name == "decode_all" else lower_many
    return compile_program(lower(search_model, method, shape, has_keys)[name])


def shapes_for(config: Config, mesh: Mesh) -> CompiledFunctions:
    """Return the jitted functions and the shape of the state, as for an accelerator, whatever the default device is."""
    vocab_size = config.tokenizer.size
    return jit_functions(config, mesh, vocab_size, vocab_size, CHUNK_SIZES["accelerator"])


def compile_program(lowered: Any) -> Program:
    """Compile a lowered function and return its resources. Raises OutOfMemory if the compiler refuses its size."""
    began, cpu_began = time.monotonic(), time.process_time()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise OutOfMemory(*_stated_sizes(str(error))) from error
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_began
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    # The compiler adds a negative number for each operation without estimate.
    estimate = cost.get("optimal_seconds", 0)
    return Program(
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        memory.generated_code_size_in_bytes,
        memory.peak_memory_in_bytes,
        round(cost.get("bytes accessed", 0)),
        estimate if estimate > 0 else None,
        seconds,
        cpu_seconds,
        find_collectives(compiled.as_text()),
    )


def _stated_sizes(message: str) -> tuple[int, int]:
    """Return the needed and the available bytes that the TPU compiler states in two notations, or zeros."""
    size = r"([\d.]+)([KMGT])"
    for notation in (rf"temporaries \({size}\) exceeds available HBM \({size}\)", rf"Used {size} of {size} hbm"):
        if match := re.search(notation, message):
            needed, needed_unit, available, available_unit = match.groups()
            return round(float(needed) * UNITS[needed_unit]), round(float(available) * UNITS[available_unit])
    return 0, 0
