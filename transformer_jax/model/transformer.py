"""The complete network.

Axes: B batch, S source positions, T target positions, W hypotheses per sentence (beam size), P places in the cache of a
sentence, D model width, V target vocabulary, E features per logit (D, or D + 1 with a bias).
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.config import ModelConfig
from transformer_jax.model.decoder import BlockCache, Decoder
from transformer_jax.model.embeddings import InputEmbeddings, PositionalEncoding
from transformer_jax.model.encoder import Encoder
from transformer_jax.model.masks import SegmentMask


class ProjectionLayer(nn.Module):
    """The projection of features to logits: x W^T, where W is the layer's own table or the shared embedding table.

    Logits are float32, because the loss sums exponentials of thousands of them.

    biases: "all" adds a bias per token, which the paper does not have.
    Source: Vaswani et al. 2017, section 3.4.
    """

    vocab_size: int
    d_model: int
    shared: InputEmbeddings | None = None
    biases: Literal["feed_forward", "all"] = "feed_forward"

    def setup(self) -> None:
        self.bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,)) if self.biases == "all" else None
        if self.shared is None:
            self.own_table = self.param("table", nn.initializers.xavier_uniform(), (self.vocab_size, self.d_model))

    def table(self) -> Float[Array, "V D"]:
        """Return the matrix W, with one row per token."""
        return self.own_table if self.shared is None else self.shared.table

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Return the logit of every token of the vocabulary at every position."""
        logits = jnp.einsum("BTD,VD->BTV", x, self.table().astype(x.dtype), preferred_element_type=jnp.float32)
        return logits if self.bias is None else logits + self.bias[None, None]

    def factors(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T E"], Float[Array, "V E"]]:
        """Return features and a table whose product is the logits.

        A bias becomes an additional column of the table, with an additional feature of 1. If the product is computed in
        bfloat16, the bias is rounded like the table, whereas ``__call__`` adds it in float32.
        """
        if self.bias is None:
            return x, self.table()
        ones = jnp.ones((*x.shape[:2], 1), x.dtype)
        return jnp.concatenate([x, ones], axis=-1), jnp.concatenate([self.table(), self.bias[:, None]], axis=-1)


class Transformer(nn.Module):
    """The encoder, the decoder, their embeddings and the projection.

    Dropout is active if the caller passes ``rngs={"dropout": key}``. Attention weights are returned if the caller
    passes ``mutable=["intermediates"]``.

    remat: "blocks" keeps only the inputs of the encoder and decoder blocks for the backward pass, which computes
        everything else within a block again ("rematerialization"). Only gradients depend on it, in time and memory.
    Source: Vaswani et al. 2017, figure 1; rematerialization: Chen et al. 2016, section 4.
    """

    config: ModelConfig
    source_vocab_size: int
    target_vocab_size: int
    remat: Literal["none", "blocks"] = "none"

    def setup(self) -> None:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        self.target_embeddings = InputEmbeddings(self.target_vocab_size, config.d_model, dtype, config.scale_embeddings)
        self.source_embeddings = (
            self.target_embeddings
            if config.share_embeddings == "all"
            else InputEmbeddings(self.source_vocab_size, config.d_model, dtype, config.scale_embeddings)
        )
        self.source_positions = PositionalEncoding(config.dropout, config.positions)
        self.target_positions = PositionalEncoding(config.dropout, config.positions)
        self.encoder = Encoder(config, self.remat)
        self.decoder = Decoder(config, self.remat)
        shared = None if config.share_embeddings == "none" else self.target_embeddings
        self.projection = ProjectionLayer(self.target_vocab_size, config.d_model, shared, config.biases)

    def encode(
        self,
        source: Int[Array, "B S"],
        mask: Bool[Array, "#B 1 #S S"] | SegmentMask,
        positions: Int[Array, "#B S"] | None = None,
    ) -> Float[Array, "B S D"]:
        """Encode source tokens into memory.

        positions: position of each token within its sentence. Default: zero-based position in the row.
        """
        positions = jnp.arange(source.shape[1])[None] if positions is None else positions
        return self.encoder(self.source_positions(self.source_embeddings(source), positions), mask)

    def decode(
        self,
        target: Int[Array, "B T"],
        memory: Float[Array, "B S D"],
        target_mask: Bool[Array, "#B 1 T T"] | SegmentMask,
        source_mask: Bool[Array, "#B 1 #T S"] | SegmentMask,
        positions: Int[Array, "#B T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Return the features at every position of the target tokens, which start with [SOS].

        positions: as in ``encode``.
        """
        positions = jnp.arange(target.shape[1])[None] if positions is None else positions
        embedded = self.target_positions(self.target_embeddings(target), positions)
        return self.decoder(embedded, memory, target_mask, source_mask)

    def project(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Project features to the logits of the next token."""
        return self.projection(x)

    def features(
        self,
        source: Int[Array, "B S"],
        target: Int[Array, "B T"],
        source_segments: Int[Array, "B S"],
        target_segments: Int[Array, "B T"],
        source_positions: Int[Array, "#B S"] | None = None,
        target_positions: Int[Array, "#B T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Encode and decode with the training masks, and return the decoder output that predicts the next tokens.

        source_segments, target_segments: one-based index of the sentence at each position; 0 for padding.
        source_positions, target_positions: as in ``encode``.
        """
        memory = self.encode(source, SegmentMask(source_segments, source_segments), source_positions)
        target_mask = SegmentMask(target_segments, target_segments, causal=True)
        source_mask = SegmentMask(target_segments, source_segments)
        return self.decode(target, memory, target_mask, source_mask, target_positions)

    def features_and_table(self, *inputs: Any) -> tuple[Float[Array, "B T E"], Float[Array, "V E"]]:
        """Return ``ProjectionLayer.factors`` of the features, for a loss that never materializes all logits.

        inputs: the arguments of ``features``.
        """
        return self.projection.factors(self.features(*inputs))

    def __call__(
        self,
        source: Int[Array, "B S"],
        target: Int[Array, "B T"],
        source_segments: Int[Array, "B S"],
        target_segments: Int[Array, "B T"],
        source_positions: Int[Array, "#B S"] | None = None,
        target_positions: Int[Array, "#B T"] | None = None,
    ) -> Float[Array, "B T V"]:
        """Return the logits of the next token at every position. Arguments: see ``features``."""
        return self.project(
            self.features(source, target, source_segments, target_segments, source_positions, target_positions)
        )

    def init_cache(self, memory: Float[Array, "B S D"], beams: int, length: int) -> tuple[BlockCache, ...]:
        """Return the decoder's caches before the first step, with ``length`` columns for ``beams`` hypotheses."""
        return self.decoder.init_cache(memory, beams, length)

    def decode_step(
        self,
        tokens: Int[Array, "B W"],
        caches: tuple[BlockCache, ...],
        positions: Int[Array, "#B"],
        column: Int[Array, ""],
        prefix_mask: Bool[Array, "#B 1 #W P"],
        source_mask: Bool[Array, "B 1 1 S"],
    ) -> tuple[Float[Array, "B W V"], tuple[BlockCache, ...]]:
        """Feed one token per hypothesis, and return the logits of the next token and the new caches.

        positions: zero-based position of ``tokens`` in the target, for each sentence.
        column: the column of the caches to which this step is written.
        prefix_mask: the places that each hypothesis attends to, including its own new place; see ``BlockCache``.
        """
        embedded = self.target_positions(
            self.target_embeddings(tokens), jnp.broadcast_to(positions[:, None], (len(positions), tokens.shape[1]))
        )
        features, caches = self.decoder.decode_step(embedded, caches, column, prefix_mask, source_mask)
        return self.project(features), caches
