"""The same model and the same update in PyTorch, as its best user would write them: the loop to be measured against.

Fused attention, one matrix for queries, keys and values, dropout masks from cheap random bytes, projection and loss in
chunks with the gradients computed in the forward pass, fused Adam; on a GPU also compiled. Arithmetic is in bfloat16 if
the model's settings say so. Dropout stands where ours does.

Axes: B rows, S source positions, T target positions, D model width, V vocabulary, N tokens of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_jax.config import ModelConfig
from transformer_jax.data.batches import Batch

CHUNKS = {"cpu": 256, "cuda": 8192}
"""Tokens whose logits are held at once."""


class Dropout(nn.Module):
    """Dropout decided by one random byte a value, eight of them drawn at a time."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropped = round(rate * 256)

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of ``x`` in training."""
        if not self.training or not self.dropped:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * keep * (256 / (256 - self.dropped))


class Attention(nn.Module):
    """Multi-head attention by PyTorch's fused kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor | None, causal: bool = False) -> Tensor:
        """Attend to ``memory``, or to ``x`` itself."""
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
    """One layer of the encoder, or with ``cross`` of the decoder."""

    def __init__(self, config: ModelConfig, cross: bool) -> None:
        super().__init__()
        width = config.d_model
        self.pre = config.norm == "pre"
        self.attention = Attention(width, config.heads)
        self.cross = Attention(width, config.heads) if cross else None
        self.widen, self.narrow = nn.Linear(width, config.d_ff), nn.Linear(config.d_ff, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(3 if cross else 2))
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, memory: Tensor | None, memory_mask: Tensor | None) -> Tensor:
        """Run the sub-layers, each in its residual connection."""
        causal = self.cross is not None
        sublayers: list[Any] = [lambda y: self.attention(y, None, mask, causal)]
        if self.cross is not None:
            sublayers.append(lambda y: self.cross(y, memory, memory_mask))
        sublayers.append(lambda y: self.narrow(functional.relu(self.widen(y))))
        for norm, sublayer in zip(self.norms, sublayers, strict=True):
            x = x + self.dropout(sublayer(norm(x))) if self.pre else norm(x + self.dropout(sublayer(x)))
        return x


class Transformer(nn.Module):
    """Encoder and decoder with one embedding matrix, which also projects."""

    sinusoids: Tensor

    def __init__(self, config: ModelConfig, vocabulary: int, longest: int) -> None:
        super().__init__()
        width = config.d_model
        self.table = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)
        self.encoder = nn.ModuleList(Block(config, cross=False) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(Block(config, cross=True) for _ in range(config.decoder_layers))
        ends = 2 if config.norm == "pre" else 0
        self.ends = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(ends))
        self.dropout = Dropout(config.dropout)
        angles = torch.arange(longest)[:, None] * 10000 ** (-torch.arange(0, width, 2) / width)
        self.register_buffer("sinusoids", torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1))

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings plus positions."""
        scaled = functional.embedding(tokens, self.table) * self.table.shape[1] ** 0.5
        return self.dropout(scaled + self.sinusoids[: tokens.shape[1]])

    def forward(self, source: Tensor, source_holds: Tensor, target: Tensor) -> Tensor:
        """Features of every target position. Padding stands at the end, so the causal mask alone serves the target."""
        mask = source_holds[:, None, None, :]
        x = self.embed(source)
        for block in self.encoder:
            x = block(x, mask, None, None)
        memory = self.ends[0](x) if self.ends else x
        y = self.embed(target)
        for block in self.decoder:
            y = block(y, None, memory, mask)
        return self.ends[1](y) if self.ends else y


class ChunkedLoss(torch.autograd.Function):
    """Projection and smoothed cross-entropy of some tokens; gradients come while a chunk's logits are at hand."""

    @staticmethod
    def forward(context: Any, features: Tensor, table: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """The sum of the loss over all tokens."""
        words = table.shape[0]
        feature_gradient, table_gradient = torch.empty_like(features), torch.zeros_like(table)
        words_table = table.to(features.dtype)
        total = table.new_zeros(())
        chunk = CHUNKS[features.device.type]
        for start in range(0, len(features), chunk):
            part, wanted = features[start : start + chunk], targets[start : start + chunk, None]
            logits = (part @ words_table.T).float()
            log_z = logits.logsumexp(-1, keepdim=True)
            total += (log_z - (1 - smoothing) * logits.gather(1, wanted)).sum() - smoothing * logits.mean(-1).sum()
            gradient = logits.sub_(log_z).exp_().sub_(smoothing / words)
            gradient.scatter_add_(1, wanted, gradient.new_full(wanted.shape, smoothing - 1))
            gradient = gradient.to(features.dtype)
            torch.mm(gradient, words_table, out=feature_gradient[start : start + chunk])
            if part.dtype == table.dtype:
                table_gradient.addmm_(gradient.T, part)
            else:
                table_gradient += gradient.T @ part
        context.save_for_backward(feature_gradient, table_gradient)
        return total

    @staticmethod
    def backward(context: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Hand out the gradients of the forward pass."""
        feature_gradient, table_gradient = context.saved_tensors
        return feature_gradient.mul_(scale), table_gradient.mul_(scale), None, None


class TorchTraining:
    """A model, its optimizer, and one update at a time."""

    def __init__(self, config: ModelConfig, vocabulary: int, longest: int, smoothing: float = 0.1) -> None:
        torch.manual_seed(0)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = Transformer(config, vocabulary, longest).to(self.device)
        self.forward = torch.compile(self.model) if self.device.type == "cuda" else self.model
        self.arithmetic = torch.autocast(self.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16")
        self.smoothing = smoothing
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def step(self, batch: Batch) -> Tensor:
        """Update once; returns the mean loss over the target tokens."""
        source, holds, target, wanted, counted = (
            torch.from_numpy(x).to(self.device, non_blocking=True)
            for x in (
                batch.source.astype("int64"),
                batch.source_segments != 0,
                batch.target_input.astype("int64"),
                batch.target_output.astype("int64"),
                batch.target_segments != 0,
            )
        )
        with self.arithmetic:
            features = self.forward(source, holds, target)[counted]
        loss = ChunkedLoss.apply(features, self.model.table, wanted[counted], self.smoothing) / len(features)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        return loss.detach()
