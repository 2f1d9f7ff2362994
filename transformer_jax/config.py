"""Every setting of a run, as frozen dataclasses.

A recipe in ``configs/`` builds one ``Config``; the command line overrides single fields (``--model.d-model 256``);
the run folder keeps the result as ``config.json``. Training or evaluation, cached or not, captured or not are no
settings: they are what the caller passes.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

RUN_FORMAT = 4
"""Version of the run folder. Raised when an older program could no longer read a newer folder, or the reverse."""
READABLE_FORMATS = (3, RUN_FORMAT)
"""Format 3 has no words for what Marian's models have and the paper's lack; its models have none of that."""


@dataclass(frozen=True)
class ModelConfig:
    """The network of Vaswani et al. 2017, section 3; the defaults are its base model (table 3)."""

    d_model: int = 512
    """Width of every token's vector between the layers."""
    d_ff: int = 2048
    """Inner width of the feed-forward layers."""
    heads: int = 8
    """Attention heads; must divide d_model."""
    encoder_layers: int = 6
    """Encoder blocks (N in the paper)."""
    decoder_layers: int = 6
    """Decoder blocks (N in the paper)."""
    dropout: float = 0.1
    """Dropout on each sub-layer's output and on the embeddings (section 5.4)."""
    norm: Literal["post", "pre"] = "post"
    """Layer normalization after the residual sum, as in the paper, or before each sub-layer, as in most
    re-implementations.
    """
    share_embeddings: Literal["none", "target", "all"] = "all"
    """One matrix for: nothing, target embedding and projection, or source embedding too (needs a joint vocabulary)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the arithmetic; parameters, layer norms, softmax and loss stay float32."""
    activation: Literal["relu", "swish"] = "relu"
    """Between the two feed-forward layers; swish, x sigmoid(x), is that of Marian's models."""
    positions: Literal["interleaved", "halves"] = "interleaved"
    """Sines and cosines in turn (section 3.5), or all sines first, as Marian has them."""
    scale_embeddings: Literal["sqrt", "none"] = "sqrt"
    """Embeddings times sqrt(d_model) (section 3.4), or as they are."""
    biases: Literal["feed_forward", "all"] = "feed_forward"
    """Biases in the feed-forward layers alone (sections 3.2.2, 3.3), or in attention and projection, too."""
    norm_epsilon: float = 1e-6
    """Added to the variance in layer normalization."""

    def __post_init__(self) -> None:
        for name in ("d_model", "d_ff", "heads", "encoder_layers", "decoder_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"model.{name} is {getattr(self, name)}. Give a number of at least 1.")
        if self.d_model % self.heads:
            raise InputError(
                f"model.heads {self.heads} does not divide model.d_model {self.d_model}. "
                "Choose a number of heads that divides the width."
            )
        if self.d_model % 2:
            raise InputError(f"model.d_model {self.d_model} is odd. The sinusoids come in pairs: choose an even width.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"model.dropout is {self.dropout}. Give a share from 0 up to, but not including, 1.")
        if not 0 < self.norm_epsilon < math.inf:
            raise InputError(f"model.norm_epsilon is {self.norm_epsilon}. Give a small number above 0, such as 1e-6.")


@dataclass(frozen=True)
class DataConfig:
    """Where the sentence pairs come from and how they are put into batches."""

    train: str = "phrasebook"
    """Training pairs: path/train.{lang}.gz, a .tsv, .jsonl or .parquet file, hf://OWNER/NAME, tfds://NAME/CONFIG,
    phrasebook.
    """
    valid: str = "phrasebook"
    """Validation pairs, same kinds of locator."""
    test: str = "phrasebook"
    """Test pairs, same kinds of locator; scored once, at the end."""
    source: str = "en"
    """Source language: fills {lang}, names the column."""
    target: str = "de"
    """Target language."""
    on_error: Literal["refuse", "skip"] = "refuse"
    """What to do with a training row that is no pair (not UTF-8, blank, a missing column, ...): stop and name it, or
    leave out both its sides and count it. Validation and test sets are always whole."""
    max_length: int = 128
    """Longest sentence in tokens, [SOS] or [EOS] included. Longer training pairs are left out and counted; a longer
    line to translate is split."""
    batching: Literal["packed", "buckets"] = "packed"
    """Rows filled with several sentences, or rows of one sentence each in a few lengths."""
    row_length: int = 64
    """Positions of a row with batching=packed, at most max_length; pairs that are longer go into rows of max_length."""
    batch_tokens: int = 4096
    """Target tokens in one update over all devices, padding included."""
    buckets: int = 5
    """Number of row lengths with batching=buckets; each is one compiled program."""

    def __post_init__(self) -> None:
        for name, least in (("max_length", 2), ("row_length", 2), ("batch_tokens", 1), ("buckets", 1)):
            if getattr(self, name) < least:
                raise InputError(f"data.{name} is {getattr(self, name)}. Give a number of at least {least}.")
        if self.batch_tokens < self.max_length:
            raise InputError(
                f"data.batch_tokens {self.batch_tokens} is less than data.max_length {self.max_length}, "
                "so the longest sentence fits no batch. Raise the first or lower the second."
            )


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes token ids and token ids become text again."""

    kind: Literal["word", "bpe", "wordpiece", "unigram", "sentencepiece"] = "bpe"
    """Word level, byte-level BPE (restores any text exactly), WordPiece or Unigram; sentencepiece comes with an
    imported model and is not trained here.
    """
    vocabulary: Literal["joint", "separate"] = "joint"
    """One vocabulary for both languages, or one for each."""
    size: int = 8000
    """Largest number of entries in a vocabulary, special tokens included."""

    def __post_init__(self) -> None:
        if self.size < 5:
            raise InputError(f"tokenizer.size is {self.size}. Give at least 5: four special tokens and one word.")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam with warm-up (Vaswani et al. 2017, section 5.3)."""

    schedule: Literal["inverse_sqrt", "cosine"] = "inverse_sqrt"
    """After the warm-up: the paper's inverse square root of the step, or half a cosine down to zero at the last
    step.
    """
    factor: float = 1.0
    """Multiplies the paper's learning rate; the peak is factor / sqrt(d_model * warmup)."""
    warmup: int = 4000
    """Updates of linear warm-up."""
    beta1: float = 0.9
    """Adam's decay of the first moment."""
    beta2: float = 0.98
    """Adam's decay of the second moment."""
    epsilon: float = 1e-9
    """Added to Adam's denominator."""
    clip_norm: float = 1.0
    """Gradients of a larger global norm are scaled down to it; 0 leaves them alone."""

    def __post_init__(self) -> None:
        if self.warmup < 1:
            raise InputError(f"optimizer.warmup is {self.warmup}. Give at least 1 update.")
        for name in ("factor", "epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"optimizer.{name} is {getattr(self, name)}. Give a number above 0.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"optimizer.{name} is {getattr(self, name)}. Give a number from 0 up to, not including, 1."
                )
        if not 0 <= self.clip_norm < math.inf:
            raise InputError(f"optimizer.clip_norm is {self.clip_norm}. Give a number of at least 0.")


@dataclass(frozen=True)
class TrainingConfig:
    """The training loop."""

    steps: int = 100_000
    """Optimizer updates."""
    label_smoothing: float = 0.1
    """Share of the target probability spread over the whole vocabulary (section 5.4)."""
    r_drop: float = 0.0
    """Weight of the divergence between two passes of a batch, which dropout makes differ (R-Drop); 0 passes it once."""
    accumulate: int = 1
    """Batches whose gradients are summed, weighted by tokens, into one update; divides batch_tokens on the device."""
    ema: float = 0.0
    """Decay of the average of weights that is validated and saved for translation; 0 uses the weights themselves."""
    seed: int = 0
    """Seed of initialization, dropout and data order."""
    log_every: int = 50
    """Updates between two lines of metrics."""
    valid_every: int = 1000
    """Updates between two validations, each followed by a checkpoint."""
    save_every: int = 0
    """Updates between two checkpoints, besides those after validations; 0 saves only then."""
    valid_sentences: int = 500
    """Validation sentences translated for sacreBLEU; the loss always covers all."""
    patience: int = 0
    """Stop after this many validations without a better score; 0 never stops early."""
    max_skipped: int = 10
    """Stop after this many updates in a row whose loss or gradients are no finite numbers; each one is skipped."""
    init: str = ""
    """A run folder whose weights, tokenizers and model settings training starts from; empty for random weights."""

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "valid_every", "valid_sentences", "max_skipped"):
            if getattr(self, name) < 1:
                raise InputError(f"training.{name} is {getattr(self, name)}. Give a number of at least 1.")
        if not 0 <= self.seed < 2**32:  # Of larger numbers jax.random.key takes the last 32 bits.
            raise InputError(f"training.seed is {self.seed}. Give a number from 0 to 2**32 - 1.")
        for name in ("save_every", "patience"):
            if getattr(self, name) < 0:
                raise InputError(f"training.{name} is {getattr(self, name)}. Give a number of at least 0.")
        if not 0 <= self.r_drop < math.inf:
            raise InputError(f"training.r_drop is {self.r_drop}. Give a weight of at least 0.")
        for name in ("label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"training.{name} is {getattr(self, name)}. Give a share from 0 up to, not including, 1."
                )


@dataclass(frozen=True)
class MeshConfig:
    """How many devices share each kind of work; the product must be the number of devices."""

    data: int = -1
    """Replicas that each see a part of the batch; -1 takes all devices that are left."""
    fsdp: int = 1
    """Devices that share parameters and optimizer state, and also split the batch."""
    tensor: int = 1
    """Devices that split heads, feed-forward width and vocabulary."""


@dataclass(frozen=True)
class DecodingConfig:
    """How translations are searched for."""

    beam: int = 4
    """Hypotheses kept a sentence; 1 is greedy."""
    length_penalty: float = 0.6
    """Alpha of Wu et al. 2016, equation 14: scores are divided by ((5 + length) / 6) ** alpha."""

    def __post_init__(self) -> None:
        if self.beam < 1 or not 0 <= self.length_penalty <= 10:
            raise InputError(
                f"decoding.beam {self.beam} and length_penalty {self.length_penalty} cannot be used. "
                "Give at least 1 and a number from 0 to 10."
            )


@dataclass(frozen=True)
class Config:
    """One run: a recipe plus what the command line changed."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        if self.model.share_embeddings == "all" and self.tokenizer.vocabulary == "separate":
            raise InputError(
                "model.share_embeddings all needs one vocabulary for both languages. "
                "Use --tokenizer.vocabulary joint or --model.share-embeddings target."
            )
        if self.training.r_drop and not self.model.dropout:
            raise InputError(
                f"training.r_drop is {self.training.r_drop}, but without dropout both passes of a batch are the same. "
                "Set --model.dropout above 0, or --training.r-drop 0."
            )


def save_config(config: Config, path: Path) -> None:
    """Write the config as JSON, with the version of the run folder's format."""
    atomic.write_text(path, json.dumps({"format": RUN_FORMAT, **dataclasses.asdict(config)}, indent=2) + "\n")


def load_config(path: Path) -> Config:
    """Read a config written by ``save_config``; fields that its format did not have take their defaults.

    Raises InputError for a version that is not readable, and for unknown fields and missing sections.
    """
    try:
        values = json.loads(path.read_text())
        version = values.pop("format")
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not the config of a run ({error!r}). Restore the file or train again.") from error
    if version not in READABLE_FORMATS:
        raise InputError(
            f"{path} has format {version}, this program reads {' and '.join(map(str, READABLE_FORMATS))}. "
            "Use the version that wrote it."
        )
    sections: dict[str, Any] = {}
    for section in dataclasses.fields(Config):
        kind: Any = section.default_factory
        try:
            given = values.pop(section.name)
            _require_types(kind, given)
            sections[section.name] = kind(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}, section {section.name}: {error}. Restore the file or train again.") from error
    if values:
        raise InputError(f"{path} has unknown sections {sorted(values)}. Use the version that wrote it.")
    return Config(**sections)


def _require_types(section: type, values: dict[str, Any]) -> None:
    """Raise TypeError for a value of another type than its field's, which the command line would never let through."""
    kinds = get_type_hints(section)
    for name, value in values.items():
        kind = kinds.get(name, object)
        if get_origin(kind) is Literal:
            fits = value in get_args(kind)
        elif kind is float:
            fits = isinstance(value, (float, int)) and abs(value) < math.inf
        else:
            fits = isinstance(value, kind)
        if not fits:
            raise TypeError(f"{name} is {value!r}")
