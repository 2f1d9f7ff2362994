"""Optimized PyTorch implementation of the model and the training step, used as the baseline.

It uses fused attention, a single matrix for queries, keys and values, and fused Adam. The data type (float32 or
bfloat16) is a config field. Dropout is applied in the same places as in transformer_jax.

On a CPU, dropout masks are made of random bytes, and projection and loss are computed in chunks, with gradients in the
forward pass. On a GPU, torch.compile does better: it merges dropout and loss into its kernels. There, batches are
copied from pinned memory, so that the copies do not wait for earlier steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_jax.config import ModelConfig
from transformer_jax.data.batches import Batch

CHUNK = 256
"""Number of tokens per chunk of the projection and loss."""


class ByteDropout(nn.Module):
    """Dropout that compares one random byte per value with a threshold. Eight bytes are drawn at a time."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.threshold = round(rate * 256)

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to ``x`` in training mode."""
        if not self.training or not self.threshold:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.threshold
        return x * keep * (256 / (256 - self.threshold))


class Attention(nn.Module):
    """Multi-head attention that uses the fused kernel of PyTorch."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor | None, causal: bool = False) -> Tensor:
        """Attend from ``x`` to ``memory``, or from ``x`` to itself if ``memory`` is None."""
        width = x.shape[-1]
        if memory is None:
            query, key, value = self.queries_keys_values(x).chunk(3, dim=-1)
        else:
            weight = self.queries_keys_values.weight
            query = functional.linear(x, weight[:width])
            key, value = functional.linear(memory, weight[width:]).chunk(2, dim=-1)
        query, key, value = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (query, key, value))
        heads = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.output(heads.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """An encoder layer, or a decoder layer if ``cross`` is True."""

    def __init__(self, config: ModelConfig, dropout: nn.Module, cross: bool) -> None:
        super().__init__()
        width = config.d_model
        self.pre = config.norm == "pre"
        self.attention = Attention(width, config.heads)
        self.cross = Attention(width, config.heads) if cross else None
        self.widen, self.narrow = nn.Linear(width, config.d_ff), nn.Linear(config.d_ff, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(3 if cross else 2))
        self.dropout = dropout

    def forward(self, x: Tensor, mask: Tensor | None, memory: Tensor | None, memory_mask: Tensor | None) -> Tensor:
        """Apply the sub-layers with their residual connections."""
        causal = self.cross is not None
        sublayers: list[Any] = [lambda y: self.attention(y, None, mask, causal)]
        if self.cross is not None:
            sublayers.append(lambda y: self.cross(y, memory, memory_mask))
        sublayers.append(lambda y: self.narrow(functional.relu(self.widen(y))))
        for norm, sublayer in zip(self.norms, sublayers, strict=True):
            x = x + self.dropout(sublayer(norm(x))) if self.pre else norm(x + self.dropout(sublayer(x)))
        return x


class Transformer(nn.Module):
    """Transformer with one matrix shared by both embeddings and the output projection."""

    sinusoids: Tensor

    def __init__(self, config: ModelConfig, dropout: nn.Module, vocabulary_size: int, max_length: int) -> None:
        super().__init__()
        width = config.d_model
        self.table = nn.Parameter(torch.randn(vocabulary_size, width) * width**-0.5)
        self.encoder = nn.ModuleList(Block(config, dropout, cross=False) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(Block(config, dropout, cross=True) for _ in range(config.decoder_layers))
        stacks = 2 if config.norm == "pre" else 0
        self.final_norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(stacks))
        self.dropout = dropout
        angles = torch.arange(max_length)[:, None] * 10000 ** (-torch.arange(0, width, 2) / width)
        self.register_buffer("sinusoids", torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1))

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the sum of scaled token embeddings and positional encodings, after dropout."""
        scaled = functional.embedding(tokens, self.table) * self.table.shape[1] ** 0.5
        return self.dropout(scaled + self.sinusoids[: tokens.shape[1]])

    def forward(self, source: Tensor, source_is_token: Tensor, target: Tensor) -> Tensor:
        """Return the decoder output at every target position.

        Padding is at the end of a row, so the causal mask is sufficient for the target.
        """
        mask = source_is_token[:, None, None, :]
        x = self.embed(source)
        for block in self.encoder:
            x = block(x, mask, None, None)
        memory = self.final_norms[0](x) if self.final_norms else x
        y = self.embed(target)
        for block in self.decoder:
            y = block(y, None, memory, mask)
        return self.final_norms[1](y) if self.final_norms else y


class ChunkedLoss(torch.autograd.Function):
    """Chunked output projection and label-smoothed cross-entropy, with gradients computed in the forward pass."""

    @staticmethod
    def forward(context: Any, features: Tensor, table: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the loss summed over all tokens."""
        vocabulary_size = table.shape[0]
        feature_gradient, table_gradient = torch.empty_like(features), torch.zeros_like(table)
        projection = table.to(features.dtype)
        total = table.new_zeros(())
        for start in range(0, len(features), CHUNK):
            chunk_features, labels = features[start : start + CHUNK], targets[start : start + CHUNK, None]
            logits = (chunk_features @ projection.T).float()
            log_z = logits.logsumexp(-1, keepdim=True)
            total += (log_z - (1 - smoothing) * logits.gather(1, labels)).sum() - smoothing * logits.mean(-1).sum()
            gradient = logits.sub_(log_z).exp_().sub_(smoothing / vocabulary_size)
            gradient.scatter_add_(1, labels, gradient.new_full(labels.shape, smoothing - 1))
            gradient = gradient.to(features.dtype)
            torch.mm(gradient, projection, out=feature_gradient[start : start + CHUNK])
            if chunk_features.dtype == table.dtype:
                table_gradient.addmm_(gradient.T, chunk_features)
            else:
                table_gradient += gradient.T @ chunk_features
        context.save_for_backward(feature_gradient, table_gradient)
        return total

    @staticmethod
    def backward(context: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Return the gradients that the forward pass computed, multiplied by ``scale``."""
        feature_gradient, table_gradient = context.saved_tensors
        return feature_gradient.mul_(scale), table_gradient.mul_(scale), None, None


def whole_loss(features: Tensor, table: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Return the loss summed over all tokens, computed in one piece."""
    logits = functional.linear(features, table).float()
    return functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")


class TorchTraining:
    """A Transformer with its optimizer and training step."""

    def __init__(
        self,
        config: ModelConfig,
        vocabulary_size: int,
        max_length: int,
        smoothing: float = 0.1,
        compiles: bool | None = None,
    ) -> None:
        """Initialize the model on a GPU, if there is one.

        compiles: whether to compile the model and the loss. Default: on a GPU.
        """
        torch.manual_seed(0)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        compiles = self.device.type == "cuda" if compiles is None else compiles
        dropout = (nn.Dropout if compiles else ByteDropout)(config.dropout)
        self.length_multiple = 8 if compiles else 1  # Fused attention with a mask requires it on a GPU.
        longest = max_length + self.length_multiple - 1
        self.model = Transformer(config, dropout, vocabulary_size, longest).to(self.device)
        # Dynamic shapes: one compilation instead of one per bucket.
        self.forward = torch.compile(self.model, dynamic=True) if compiles else self.model
        self.loss = torch.compile(whole_loss, dynamic=True) if compiles else ChunkedLoss.apply
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16")
        self.smoothing = smoothing
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def to_device(self, array: np.ndarray) -> Tensor:
        """Copy an array to the device without waiting."""
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)

    def step(self, batch: Batch) -> Tensor:
        """Run one training step and return the mean loss per target token."""
        # Found on the host, because a GPU would have to finish first.
        positions = np.flatnonzero(batch.target_segments)
        padding = (0, 0), (0, -batch.source.shape[1] % self.length_multiple)
        source, target, labels = (
            self.to_device(ids.astype("int64"))
            for ids in (np.pad(batch.source, padding), batch.target_input, batch.target_output.ravel()[positions])
        )
        source_is_token = self.to_device(np.pad(batch.source_segments, padding) != 0)
        indices = self.to_device(positions)
        with self.autocast:
            features = self.forward(source, source_is_token, target).flatten(0, 1)[indices]
            loss = self.loss(features, self.model.table, labels, self.smoothing) / len(positions)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        return loss.detach()
