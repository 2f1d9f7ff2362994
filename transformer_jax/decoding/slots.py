"""The decoding loop of all searches: each slot translates one sentence, and finished slots take new sentences.

Step p of the loop writes column p mod C of the caches and token buffers of all slots. The buffers are therefore rings
whose contents are never moved. A slot uses only the columns that were written since its sentence entered.

Axes: B slots, G groups of new sentences, N new sentences, S source positions, W hypotheses per sentence (beam size),
C columns of the ring, P places in the cache of a slot (C * W), R slots that are moved, V target vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.model.masks import padding_mask
from transformer_jax.model.transformer import Transformer

STATIC = {"static": True}
NO_LIMIT = int(jnp.iinfo(jnp.int32).max)
"""A number of steps that no call takes."""


# A NamedTuple cannot cross jit: all its fields would be traced, and a model is not an array.
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SearchModel:
    """A model as the searches use it.

    model: the Transformer (static).
    params: its parameters.
    special_ids: ids of the special tokens of the target (static).
    """

    model: Transformer = field(metadata=STATIC)
    params: Any
    special_ids: SpecialIds = field(metadata=STATIC)

    def apply(self, *arguments: Any, method: str) -> Any:
        """Call a method of the model with the parameters."""
        return self.model.apply({"params": self.params}, *arguments, method=method)


class Finished(NamedTuple):
    """The finished hypotheses of each slot, best first.

    origins: for each column, the beam that stores the hypothesis's token.
    lengths: number of tokens, [EOS] included; 0 in an empty place.
    scores: the ranking score; minus infinity in an empty place. The score is the sum of the tokens' log-probabilities,
        [EOS] included. Beam search divides it by the length penalty.
    """

    origins: Int[Array | np.ndarray, "*G B W C"]
    lengths: Int[Array | np.ndarray, "*G B W"]
    scores: Float[Array | np.ndarray, "*G B W"]


class Slots(NamedTuple):
    """State of the decoding loop.

    step: number of steps taken.
    starts: the step at which the sentence of each slot entered.
    length_limits: maximum length of each translation, [EOS] included.
    is_live: whether a slot needs more steps; False for an empty, finished or cut slot.
    is_cut: whether the translation of a slot was given up, because the ring is too short for it.
    last_tokens: the newest token of each live hypothesis.
    tokens: the tokens that the decoder has read, by column.
    origins: for each column of a live hypothesis, the beam that stores its token, keys and values.
    log_probs: sums of the log-probabilities of the live hypotheses.
    finished: the finished hypotheses.
    caches: the decoder's caches.
    source_mask: mask of the source padding.
    keys: one random key per sentence; None unless tokens are sampled.
    """

    step: Int[Array, ""]
    starts: Int[Array, "B"]
    length_limits: Int[Array, "B"]
    is_live: Bool[Array, "B"]
    is_cut: Bool[Array, "B"]
    last_tokens: Int[Array, "B W"]
    tokens: Int[Array, "B W C"]
    origins: Int[Array, "B W C"]
    log_probs: Float[Array, "B W"]
    finished: Finished
    caches: Any
    source_mask: Bool[Array, "B 1 1 S"]
    keys: Any

    @property
    def positions(self) -> Int[Array, "B"]:
        """The position in its translation that each slot decodes in the current step."""
        return self.step - self.starts

    @property
    def results(self) -> SlotResults:
        """The fields from which the host reads the translations."""
        return SlotResults(self.is_live, self.is_cut, self.starts, self.tokens, self.finished)


class SlotResults(NamedTuple):
    """Fields of ``Slots``, in ``decode_some`` after each group."""

    is_live: Bool[Array | np.ndarray, "*G B"]
    is_cut: Bool[Array | np.ndarray, "*G B"]
    starts: Int[Array | np.ndarray, "*G B"]
    tokens: Int[Array | np.ndarray, "*G B W C"]
    finished: Finished


class NewSentences(NamedTuple):
    """Sentences that enter free slots.

    source: ids of each source, with [EOS], then padding.
    length_limits: maximum length of each translation, [EOS] included; 0 for a padding row.
    keys: one random key per sentence; None unless tokens are sampled.
    """

    source: Int[Array | np.ndarray, "N S"]
    length_limits: Int[Array | np.ndarray, "N"]
    keys: Any


@runtime_checkable  # Tests check annotations at run time.
class SearchMethod(Protocol):
    """A way of choosing the next tokens. A dataclass that is registered with JAX, so that it can cross jit."""

    @property
    def beam_size(self) -> int:
        """The number of hypotheses per sentence."""

    def extend(self, slots: Slots, logits: Float[Array, "B W V"], special_ids: SpecialIds) -> Slots:
        """Return the slots with one more token per live hypothesis. Set every field except ``step`` and the caches.

        The result of a slot must not depend on other slots, and the hypotheses of a finished slot must not change.
        """


def _empty_slots(
    search_model: SearchModel, slots: int, source_length: int, columns: int, beam_size: int, has_keys: bool
) -> Slots:
    """Return free slots.

    columns: number of columns of the ring.
    has_keys: whether each slot has a random key.
    """
    config = search_model.model.config
    memory = jax.ShapeDtypeStruct((slots, source_length, config.d_model), config.dtype)
    caches = jax.eval_shape(lambda memory: search_model.apply(memory, beam_size, columns, method="init_cache"), memory)
    by_slot, by_hypothesis = jnp.zeros(slots, jnp.int32), jnp.zeros((slots, beam_size), jnp.int32)
    by_column, scores = jnp.zeros((slots, beam_size, columns), jnp.int32), jnp.zeros((slots, beam_size))
    return Slots(
        step=jnp.zeros((), jnp.int32),
        starts=by_slot,
        length_limits=by_slot,
        is_live=by_slot != 0,
        is_cut=by_slot != 0,
        last_tokens=by_hypothesis,
        tokens=by_column,
        origins=by_column,
        log_probs=scores,
        finished=Finished(by_column, by_hypothesis, scores),
        caches=jax.tree.map(lambda cache: jnp.zeros(cache.shape, cache.dtype), caches),
        source_mask=jnp.zeros((slots, 1, 1, source_length), bool),
        keys=jax.random.split(jax.random.key(0), slots) if has_keys else None,
    )


# The parameters are not used, but put the slots on their device.
empty_slots = jax.jit(
    _empty_slots,
    static_argnames=("slots", "source_length", "columns", "beam_size", "has_keys"),
    keep_unused=True,
)


class _Encoded(NamedTuple):
    """New sentences that are ready to enter: the encoder's output is projected for the decoder's caches."""

    length_limits: Int[Array, "N"]
    source_caches: Any
    source_mask: Bool[Array, "N 1 1 S"]
    keys: Any


@partial(jax.jit, static_argnames="columns")
def decode_all(search_model: SearchModel, method: SearchMethod, new: NewSentences, columns: int) -> SlotResults:
    """Decode sentences to their end, each in its own slot.

    columns: number of columns of the ring.
    """
    sentences, source_length = new.source.shape
    slots = _empty_slots(search_model, sentences, source_length, columns, method.beam_size, new.keys is not None)
    slots = _enter(search_model, slots, _encode(search_model, slots, new))
    return _decode(search_model, method, slots, 0).results


@partial(jax.jit, donate_argnames="slots")
def decode_some(
    search_model: SearchModel,
    method: SearchMethod,
    slots: Slots,
    new: NewSentences,
    max_live: Int[Array | np.ndarray, "G"],
    max_steps: Int[Array, ""] | int,
) -> tuple[Slots, SlotResults]:
    """Let groups of sentences of equal size enter free slots, one group after the other.

    Each group enters the first free slots. Then the slots are decoded until at most ``max_live`` of them are live, so
    that the next group finds free slots.

    max_live: maximum number of live slots after each group.
    max_steps: maximum number of steps after each group, even if more slots are live then.
    Returns the slots, and the results after each group.
    """

    def decode_group(slots: Slots, group: tuple[_Encoded, Int[Array, ""]]) -> tuple[Slots, SlotResults]:
        encoded, max_live = group
        slots = _decode(search_model, method, _enter(search_model, slots, encoded), max_live, max_steps)
        return slots, slots.results

    encoded = _encode(search_model, slots, new)
    groups = jax.tree.map(lambda x: x.reshape(len(max_live), -1, *x.shape[1:]), encoded)
    return jax.lax.scan(decode_group, slots, (groups, jnp.asarray(max_live)))


@jax.jit
def decode_rest(
    search_model: SearchModel, method: SearchMethod, slots: Slots, rows: Int[Array | np.ndarray, "R"]
) -> SlotResults:
    """Decode some of the slots to their end.

    rows: indices of the slots; the number of slots for a padding row.
    """
    return _decode(search_model, method, move_slots(slots, rows), 0).results


@jax.jit
def move_slots(slots: Slots, rows: Int[Array | np.ndarray, "R"]) -> Slots:
    """Return some of the slots. ``rows`` is that of ``decode_rest``."""
    moved = jax.tree.map(lambda x: x.at[rows].get(mode="clip") if x.ndim else x, slots)
    return moved._replace(is_live=moved.is_live & (rows < len(slots.is_live)))


def _decode(
    search_model: SearchModel,
    method: SearchMethod,
    slots: Slots,
    max_live: Int[Array, ""] | int,
    max_steps: Int[Array, ""] | int = NO_LIMIT,
) -> Slots:
    first = slots.step
    return jax.lax.while_loop(
        lambda slots: (slots.is_live.sum() > max_live) & (slots.step - first < max_steps),
        partial(_decode_step, search_model, method),
        slots,
    )


def _encode(search_model: SearchModel, slots: Slots, new: NewSentences) -> _Encoded:
    source = jnp.asarray(new.source)
    mask = padding_mask(source, search_model.special_ids.pad)
    memory = search_model.apply(source, mask, method="encode")
    caches = search_model.apply(memory, *slots.tokens.shape[1:], method="init_cache")
    return _Encoded(jnp.asarray(new.length_limits), tuple(cache.source for cache in caches), mask, new.keys)


def _enter(search_model: SearchModel, slots: Slots, new: _Encoded) -> Slots:
    """Return the slots with the new sentences ready for their first step."""
    first_free = jnp.argsort(slots.is_live, stable=True)[: len(new.length_limits)]
    entered = jnp.where(new.length_limits > 0, first_free, len(slots.is_live))

    def put(old: Any, values: Any) -> Any:
        return old.at[entered].set(values, mode="drop")  # Padding rows are out of bounds.

    no_scores = jnp.full((len(entered), slots.log_probs.shape[1]), -jnp.inf)
    return slots._replace(
        starts=put(slots.starts, slots.step),
        length_limits=put(slots.length_limits, new.length_limits),
        is_live=put(slots.is_live, True),
        is_cut=put(slots.is_cut, False),
        last_tokens=put(slots.last_tokens, search_model.special_ids.sos),
        log_probs=put(slots.log_probs, no_scores.at[:, 0].set(0)),  # All beams are equal: only one is continued.
        finished=slots.finished._replace(
            lengths=put(slots.finished.lengths, 0), scores=put(slots.finished.scores, no_scores)
        ),
        caches=tuple(
            cache._replace(source=jax.tree.map(put, cache.source, source))
            for cache, source in zip(slots.caches, new.source_caches, strict=True)
        ),
        source_mask=put(slots.source_mask, new.source_mask),
        keys=jax.tree.map(put, slots.keys, new.keys),
    )


def _decode_step(search_model: SearchModel, method: SearchMethod, slots: Slots) -> Slots:
    """Feed the newest token of each live hypothesis to the decoder, and extend the hypotheses."""
    beam_size, columns = slots.tokens.shape[1:]
    column = slots.step % columns
    # The tokens of a finished slot stay, until its result has been read.
    read_tokens = jnp.where(slots.is_live[:, None], slots.last_tokens, slots.tokens[:, :, column])
    slots = slots._replace(
        tokens=slots.tokens.at[:, :, column].set(read_tokens),
        origins=slots.origins.at[:, :, column].set(jnp.arange(beam_size)[None]),
    )
    logits, caches = search_model.apply(
        slots.last_tokens,
        slots.caches,
        slots.positions,
        column,
        _prefix_mask(slots),
        slots.source_mask,
        method="decode_step",
    )
    slots = method.extend(slots._replace(caches=caches), logits, search_model.special_ids)
    # One more step of a slot that has used all columns would overwrite its own first column.
    is_cut = slots.is_live & (slots.positions + 1 >= columns)
    return slots._replace(step=slots.step + 1, is_live=slots.is_live & ~is_cut, is_cut=slots.is_cut | is_cut)


def _prefix_mask(slots: Slots) -> Bool[Array, "B 1 W P"]:
    """Return a mask of the cached places that belong to each live hypothesis."""
    size, beam_size, columns = slots.tokens.shape
    age = (slots.step - jnp.arange(columns)) % columns
    is_own_sentence = (age[None] <= slots.positions[:, None])[:, None, :, None]
    is_own_beam = slots.origins[:, :, :, None] == jnp.arange(beam_size)[None, None, None]
    return (is_own_sentence & is_own_beam).reshape(size, 1, beam_size, columns * beam_size)
