"""Memory of a training step with and without rematerialization, by the TPU's compiler: python -m benchmarks.remat.

It needs no TPU, only its compiler: pip install "jax[tpu]". Every compilation takes one to two minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformer_jax.commands.cli import parse_arguments, run_command
from transformer_jax.commands.recipe import find_recipe, load_recipe
from transformer_jax.config import Config
from transformer_jax.storage import atomic

RECORD = Path("benchmarks/results/remat_tpu.json")


@dataclass(frozen=True)
class RematCommand:
    """Compile the training step of a recipe for one TPU chip, and record its memory."""

    config: str = "wmt14_base"
    """The recipe."""
    chip: Literal["v5e", "v6e"] = "v5e"
    """The TPU."""
    row_lengths: tuple[int, ...] = (256, 1024, 4096)
    """Row lengths in tokens."""
    batch_tokens: int = 24_576
    """Target tokens per update."""
    remat: tuple[Literal["none", "blocks"], ...] = ("none", "blocks")
    """Values of training.remat."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str]) -> None:
    """Compile the training steps one after the other. Add the memory of each to the record, and print it."""
    command = parse_arguments(RematCommand(), arguments, "python -m benchmarks.remat")
    os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    for length in command.row_lengths:
        for remat in command.remat:
            recipe = load_recipe(find_recipe(command.config))
            training = dataclasses.replace(recipe.training, remat=remat)
            data = dataclasses.replace(
                recipe.data, batch_tokens=command.batch_tokens, max_length=length, row_length=length
            )
            config = dataclasses.replace(recipe, data=data, training=training)
            case = {"recipe": command.config, "chip": command.chip, "row_length": length, "remat": remat}
            result = {**case, "batch_tokens": command.batch_tokens, **measure(config, command.chip)}
            records = json.loads(RECORD.read_text()) if RECORD.exists() else []
            others = [record for record in records if {name: record[name] for name in case} != case]
            atomic.write_text(RECORD, json.dumps([*others, result], indent=2) + "\n")
            print(json.dumps(result), flush=True)


def measure(config: Config, chip: str) -> dict[str, Any]:
    """Return GB of arguments and of temporary memory, and seconds of compilation, of a step on one chip.

    If the step does not fit, the compiler reports only the total.
    """
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import AxisType, Mesh

    from transformer_jax.data.batches import Batch
    from transformer_jax.sharding import AXES, batch_sharding
    from transformer_jax.training.compiled import jit_functions
    from transformer_jax.training.loss import CHUNK_SIZES

    topology = topologies.get_topology_desc(
        platform="tpu", topology_name=f"{chip}:1x1", chips_per_host_bounds=(1, 1, 1)
    )
    mesh = Mesh(np.array(topology.devices).reshape(1, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3)
    size, length = config.tokenizer.size, config.data.row_length
    functions = jit_functions(config, mesh, size, size, CHUNK_SIZES["accelerator"])
    shape = (config.data.batch_tokens // length, length)
    rows: Any = jax.ShapeDtypeStruct(shape, np.int32, sharding=batch_sharding(mesh))
    lowered = functions.train_step.lower(functions.state, Batch(*[rows] * len(Batch._fields)))
    began = time.monotonic()
    try:
        memory = lowered.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if not (used := re.search(r"Used ([\d.]+)G of ([\d.]+)G hbm", str(error))):
            raise
        total, available = map(float, used.groups())
        return {"fits": False, "total_gib": total, "available_gib": available}
    return {
        "fits": True,
        "arguments_gb": round(memory.argument_size_in_bytes / 1e9, 2),
        "temporary_gb": round(memory.temp_size_in_bytes / 1e9, 2),
        "compile_seconds": round(time.monotonic() - began),
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
