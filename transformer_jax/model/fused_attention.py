"""Fused attention kernels of other libraries. They never write the weights of all queries and keys to memory.

Axes: B batch, T queries, S keys, H heads, K head width.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from transformer_jax.config import ModelConfig
from transformer_jax.errors import InputError
from transformer_jax.model.masks import SegmentMask, segment_mask


class Kernel(NamedTuple):
    """A fused kernel.

    attend: (query, keys, values, mask) -> attended values. The result is undefined for fully masked queries.
    length_multiple: The kernel needs numbers of queries and keys that are multiples of this number.
    """

    attend: Callable[..., Float[Array, "B T H K"]]
    length_multiple: int


def fused_attention(
    kernel: Literal["cudnn", "pallas"],
    query: Float[Array, "B T H K"],
    keys: Float[Array, "B S H K"],
    values: Float[Array, "B S H K"],
    mask: SegmentMask,
) -> Float[Array, "B T H K"]:
    """Return what ``attend`` returns, computed by a fused kernel.

    XLA cannot partition a kernel. On a mesh, set by ``jax.sharding.use_abstract_mesh``, each device therefore computes
    its own heads of its own rows: the heads are sharded over the axis "tensor" here, and the rows over the axes that
    the caller vmaps over.
    """
    attend = partial(_attend_on_device, KERNELS[kernel])
    if not jax.sharding.get_abstract_mesh().empty:
        heads = P(None, None, "tensor")
        # The outputs of kernels do not say over which mesh axes they vary, so JAX cannot check it.
        attend = jax.shard_map(attend, in_specs=(heads, heads, heads, P()), out_specs=heads, check_vma=False)
    return attend(query, keys, values, mask)


def _attend_on_device(
    kernel: Kernel,
    query: Float[Array, "B T H K"],
    keys: Float[Array, "B S H K"],
    values: Float[Array, "B S H K"],
    mask: SegmentMask,
) -> Float[Array, "B T H K"]:
    def pad(x: Array) -> Array:
        """Append positions of segment 0, which is padding."""
        return jnp.pad(x, ((0, 0), (0, -x.shape[1] % kernel.length_multiple), *[(0, 0)] * (x.ndim - 2)))

    padded_mask = SegmentMask(pad(mask.queries), pad(mask.keys), mask.causal)
    attended = kernel.attend(pad(query), pad(keys), pad(values), padded_mask)[:, : query.shape[1]]
    return jnp.where(mask.to_boolean().any(-1).swapaxes(1, 2)[..., None], attended, 0)


def _cudnn(
    query: Float[Array, "B T H K"], keys: Float[Array, "B S H K"], values: Float[Array, "B S H K"], mask: SegmentMask
) -> Float[Array, "B T H K"]:
    allowed = segment_mask(mask.queries, mask.keys)
    if not jax.sharding.get_abstract_mesh().empty:
        # The training step vmaps over several devices, and JAX vmaps cuDNN's kernel only with one mask per head.
        allowed = allowed.repeat(query.shape[2], axis=1)
    attend = partial(jax.nn.dot_product_attention, implementation="cudnn")
    # A kernel that knows that the mask is causal skips half of the products.
    return attend(query, keys, values, mask=allowed, is_causal=mask.causal)


def _pallas(
    query: Float[Array, "B T H K"], keys: Float[Array, "B S H K"], values: Float[Array, "B S H K"], mask: SegmentMask
) -> Float[Array, "B T H K"]:
    # Importing Pallas takes 0.2 s.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    (_, queries, heads, width), length = query.shape, keys.shape[1]
    block_q, block_kv = (next(size for size in (512, 256, 128) if n % size == 0) for n in (queries, length))
    block_sizes = splash.BlockSizes(
        block_q=block_q,
        block_kv=block_kv,
        block_q_dkv=block_q,
        block_kv_dkv=block_kv,
        block_q_dq=block_q,
        block_kv_dq=block_kv,
    )
    head_mask = splash.CausalMask((queries, length)) if mask.causal else splash.FullMask((queries, length))
    attend = splash.make_splash_mha(
        splash.MultiHeadMask([head_mask] * heads), block_sizes=block_sizes, head_shards=1, q_seq_shards=1
    )
    attended = jax.vmap(attend)(
        query.swapaxes(1, 2) * width**-0.5,
        keys.swapaxes(1, 2),
        values.swapaxes(1, 2),
        splash.SegmentIds(mask.queries, mask.keys),
    )
    return attended.swapaxes(1, 2)


KERNELS = {"cudnn": Kernel(_cudnn, length_multiple=2), "pallas": Kernel(_pallas, length_multiple=128)}
"""Value of ``model.attention`` -> kernel. The multiple of Pallas is the width of a TPU's vector registers."""


def require_kernel(config: ModelConfig, device: Any, tensor: int) -> None:
    """Raise InputError if ``model.attention`` is a kernel that does not support the model or its devices.

    device: one of the devices.
    tensor: size of the mesh axis "tensor".
    """
    head_width = config.d_model // config.heads
    # Other devices have no such attribute, and AMD's GPUs have names such as gfx942.
    [capability] = re.findall(r"^\d+\.\d+$", getattr(device, "compute_capability", "")) or ["0"]
    max_width = 256 if float(capability) >= 9 else 128
    divides = config.heads % tensor == 0, f"a --mesh.tensor that divides model.heads {config.heads}, not {tensor}"
    requirements = {
        "xla": [],
        "cudnn": [
            (float(capability) >= 8, f"an NVIDIA GPU of compute capability 8.0 or later, not {device.device_kind}"),
            (config.dtype != "float32", "--model.dtype bfloat16 or float16"),
            (
                head_width % 8 == 0 and head_width <= max_width,
                f"a head width (model.d_model / model.heads) that is a multiple of 8 and at most {max_width}, not "
                f"{head_width}",
            ),
            divides,
        ],
        "pallas": [
            (device.platform == "tpu", f"a TPU, not {device.device_kind}"),
            (config.dtype != "float16", "--model.dtype bfloat16 or float32"),
            divides,
        ],
    }
    for is_met, requirement in requirements[config.attention]:
        if not is_met:
            raise InputError(f"model.attention {config.attention} needs {requirement}. Set --model.attention xla.")
