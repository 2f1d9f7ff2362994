"""The collective operations of a compiled program, read from its HLO text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple


class Collective(NamedTuple):
    """An operation in which devices exchange data.

    kind: the HLO operation.
    types: the element types of the arrays, such as ("bf16",).
    result_shapes: shapes of the arrays that each device receives.
    bytes_sent: bytes that a device sends per execution.
    executions: number of executions per run of the program.
    in_loop: whether the operation is inside a loop.
    """

    kind: str
    types: tuple[str, ...]
    result_shapes: list[tuple[int, ...]]
    bytes_sent: int
    executions: int
    in_loop: bool


COLLECTIVE_PATTERN = re.compile(
    r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)
ARRAY_PATTERN = re.compile(r"([a-z]+)(\d*)\[([\d,]*)\]")
CALL_PATTERN = re.compile(r"(?:to_apply|calls|body|condition|branch_computations)=\{?(%[^,}\s]+(?:, %[^,}\s]+)*)")
REDUCE_SCATTER_PATTERN = re.compile(r" = (.*?) fusion\(.* calls=(%all-reduce-scatter[^,\s]*)")
"""The TPU compiler writes a reduce-scatter as a fusion of an all-reduce and a slice."""
CHAIN_PATTERN = re.compile(r"channel_id=(\d+),.*chain_id=\"(\d+)\"")
"""The TPU compiler divides an all-gather among several fusions that also compute. Each of them names the all-gather."""


def find_collectives(hlo: str) -> list[Collective]:
    """Return all collectives of an optimized program. Executions in a loop are multiplied by the known trip count."""
    computations = dict(re.findall(r"^(?:ENTRY )?(%\S+) .*?\{\n(.*?)^\}$", hlo, re.MULTILINE | re.DOTALL))
    [entry] = re.findall(r"^ENTRY (%\S+)", hlo, re.MULTILINE)
    chains = set()

    def visit(computation: str, executions: int, in_loop: bool) -> Iterator[Collective]:
        for line in computations[computation].splitlines():
            if scattered := REDUCE_SCATTER_PATTERN.search(line):
                [reduced] = [part for part in computations[scattered[2]].splitlines() if " all-reduce(" in part]
                yield _make_collective("reduce-scatter", scattered[1], _group_size(reduced), executions, in_loop)
                continue
            match = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            trip_count = int(match[1]) if match else 1
            for called in ", ".join(CALL_PATTERN.findall(line)).split(", "):
                if called:
                    yield from visit(called, executions * trip_count, in_loop or " while(" in line)
            if collective := COLLECTIVE_PATTERN.search(line):
                results, kind, start = collective.groups()
                if chain := CHAIN_PATTERN.search(line):
                    if (kind, chain.groups()) in chains:
                        continue
                    chains.add((kind, chain.groups()))
                # These two return their operands as well as their results.
                with_operands = bool(start) and kind in ("all-gather", "collective-permute")
                yield _make_collective(kind, results, _group_size(line), executions, in_loop, with_operands)

    return list(visit(entry, 1, False))


def _make_collective(
    kind: str, results: str, group_size: int, executions: int, in_loop: bool, with_operands: bool = False
) -> Collective:
    """Return a collective. The number of bytes is the minimum, which a ring algorithm sends.

    with_operands: whether ``results`` lists the operands, then as many results, then scalars for synchronization.
    """
    arrays = [
        (kind_of_number + bits, int(bits or 8) // 8, tuple(map(int, filter(None, sizes.split(",")))))
        for kind_of_number, bits, sizes in ARRAY_PATTERN.findall(results)
    ]
    if with_operands:
        arrays = [array for array in arrays if array[2]]
        arrays = arrays[len(arrays) // 2 :]
    result_bytes = sum(itemsize * math.prod(shape) for _, itemsize, shape in arrays)
    share_of_others = (group_size - 1) / group_size
    bytes_sent = {
        "all-reduce": 2 * share_of_others * result_bytes,
        "all-gather": share_of_others * result_bytes,
        "reduce-scatter": (group_size - 1) * result_bytes,  # The result is one shard of the input.
        "all-to-all": share_of_others * result_bytes,
        "collective-permute": result_bytes,
    }
    types = tuple(sorted({name for name, _, _ in arrays}))
    return Collective(kind, types, [shape for _, _, shape in arrays], round(bytes_sent[kind]), executions, in_loop)


def _group_size(line: str) -> int:
    """Return the number of devices in a replica group, which XLA writes in three notations."""
    if axes := re.search(r"replica_groups=mesh\[(.*?)\].*?\{(.*?)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
        group_axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", axes[2])  # The size of a partial axis follows its name.
        return math.prod(int(partial_size or sizes[name]) for name, partial_size in group_axes)
    if counts := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(counts[1])
    if members := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(members[1].split(","))
    return 1  # A permutation has source-target pairs instead of groups.
