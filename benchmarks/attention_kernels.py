"""Memory of attention with XLA and with the Pallas kernel, by the TPU's compiler.

    python -m benchmarks.attention_kernels
    python -m benchmarks.attention_kernels --part step

It needs no TPU, only its compiler: pip install "jax[tpu]". Speed cannot be measured without a TPU, and the compiler has
no estimate for Pallas kernels.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformer_jax.commands.cli import parse_arguments, run_command
from transformer_jax.commands.recipe import find_recipe, load_recipe
from transformer_jax.config import Config

RECORD = Path("benchmarks/results/attention_kernels_tpu.json")


@dataclass(frozen=True)
class AttentionCommand:
    """Compile attention for one TPU chip, and record its memory."""

    part: Literal["attention", "step"] = "attention"
    """One causal attention with its gradients (attention), or a training step of the base model (step)."""
    layers: int = 2
    """Encoder and decoder layers of the step."""
    row_lengths: tuple[int, ...] = (64, 256, 1024, 4096)
    """Row lengths in tokens."""
    batch_tokens: int = 24_576
    """Positions per batch."""
    kernels: tuple[Literal["xla", "pallas"], ...] = ("xla", "pallas")
    """Values of model.attention."""
    chip: Literal["v5e", "v6e"] = "v5e"
    """The TPU."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str]) -> None:
    """Compile the programs one after the other. Add the figures of each to the record, and print them."""
    command = parse_arguments(AttentionCommand(), arguments, "python -m benchmarks.attention_kernels")
    os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    for length in command.row_lengths:
        for kernel in command.kernels:
            case = {"part": command.part, "chip": command.chip, "row_length": length, "kernel": kernel}
            if command.part == "step":
                case["layers"] = command.layers
            result = {**case, "batch_tokens": command.batch_tokens, **measure(command, kernel, length)}
            records = json.loads(RECORD.read_text()) if RECORD.exists() else []
            others = [record for record in records if {name: record.get(name) for name in case} != case]
            RECORD.write_text(json.dumps([*others, result], indent=2) + "\n")
            print(json.dumps(result), flush=True)


def measure(command: AttentionCommand, kernel: Literal["xla", "pallas"], length: int) -> dict[str, Any]:
    """Return MiB of temporary memory, GB that the program accesses, and seconds of compilation."""
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import AxisType, Mesh

    from transformer_jax.sharding import AXES

    recipe = load_recipe(find_recipe("wmt14_base"))
    model = dataclasses.replace(
        recipe.model, attention=kernel, encoder_layers=command.layers, decoder_layers=command.layers
    )
    data = dataclasses.replace(recipe.data, batch_tokens=command.batch_tokens, max_length=length, row_length=length)
    config = dataclasses.replace(recipe, model=model, data=data)
    topology = topologies.get_topology_desc(
        platform="tpu", topology_name=f"{command.chip}:1x1", chips_per_host_bounds=(1, 1, 1)
    )
    mesh = Mesh(np.array(topology.devices).reshape(1, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3)
    lowered = (lower_attention if command.part == "attention" else lower_step)(config, mesh)
    began = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "hbm" not in str(error):
            raise
        return {"fits": False}
    cost = compiled.cost_analysis()
    return {
        "fits": True,
        "temporary_mib": round(compiled.memory_analysis().temp_size_in_bytes / 2**20),
        "accessed_gb": round(cost["bytes accessed"] / 1e9, 2),
        # The sum is negative if the compiler has no estimate for a part of the program.
        "estimated_ms": round(1e3 * cost["optimal_seconds"], 2) if cost["optimal_seconds"] > 0 else None,
        "compile_seconds": round(time.monotonic() - began),
    }


def lower_attention(config: Config, mesh: Any) -> Any:
    """Lower causal self-attention of projected heads, with its gradients."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from transformer_jax.model.attention import KeysValues, attend
    from transformer_jax.model.fused_attention import fused_attention
    from transformer_jax.model.masks import SegmentMask
    from transformer_jax.sharding import batch_sharding

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
    heads = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)
    segments = jax.ShapeDtypeStruct((rows, length), np.int32, sharding=sharding)
    return jax.jit(values_and_gradients).lower(heads, heads, heads, segments, heads)


def lower_step(config: Config, mesh: Any) -> Any:
    """Lower the training step."""
    import jax
    import numpy as np

    from transformer_jax.data.batches import Batch
    from transformer_jax.sharding import batch_sharding
    from transformer_jax.training.compiled import jit_functions
    from transformer_jax.training.loss import CHUNK_SIZES

    size = config.tokenizer.size
    functions = jit_functions(config, mesh, size, size, CHUNK_SIZES["accelerator"])
    shape = config.data.batch_tokens // config.data.row_length, config.data.row_length
    rows: Any = jax.ShapeDtypeStruct(shape, np.int32, sharding=batch_sharding(mesh))
    return functions.train_step.lower(functions.state, Batch(*[rows] * len(Batch._fields)))


if __name__ == "__main__":
    sys.exit(run_command(main))
