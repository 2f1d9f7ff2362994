"""The configuration of a run, as frozen dataclasses.

A recipe in ``configs/`` builds one ``Config``. The command line overrides single fields (``--model.d-model 256``), and
the run directory stores the result as ``config.json``. Training or evaluation mode, caching and attention capture are
not config fields: callers select them with arguments.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformer_jax.config_checks import require_at_least, require_below_one, require_positive, require_types
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

RUN_FORMAT = 6
"""Format version of run directories. Increase it when older versions of this package cannot read new run directories,
or when this version cannot read old run directories.
"""
READABLE_FORMATS = (3, 4, 5, RUN_FORMAT)
"""Format versions that this package can read. The defaults are correct for all fields that older formats lack."""
ADDED_SECTIONS = {"evaluation": 5}
"""Section -> the first format that has it."""


@dataclass(frozen=True)
class ModelConfig:
    """The network of Vaswani et al. 2017, section 3. The defaults are the base model (table 3)."""

    d_model: int = 512
    """Model width: the size of each token's vector."""
    d_ff: int = 2048
    """Inner width of the feed-forward layers."""
    heads: int = 8
    """Number of attention heads; must divide d_model."""
    encoder_layers: int = 6
    """Number of encoder blocks (N in the paper)."""
    decoder_layers: int = 6
    """Number of decoder blocks (N in the paper)."""
    dropout: float = 0.1
    """Dropout rate on the output of each sub-layer and on the embeddings (section 5.4)."""
    norm: Literal["post", "pre"] = "post"
    """Layer normalization after the residual sum (post), as in the paper, or before each sub-layer (pre), as in most
    re-implementations.
    """
    share_embeddings: Literal["none", "target", "all"] = "all"
    """Weight sharing: none; target embedding and output projection (target); or source embedding, target embedding and
    output projection (all), which needs a joint vocabulary.
    """
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the arithmetic. Parameters, layer normalization, softmax and loss are always float32. float16, with
    dynamic scaling of the loss, is for GPUs without bfloat16 (T4, V100).
    """
    activation: Literal["relu", "swish"] = "relu"
    """Activation function between the two feed-forward layers. Marian models use swish: x * sigmoid(x)."""
    positions: Literal["interleaved", "halves"] = "interleaved"
    """Order of the sinusoids: sines and cosines alternate (section 3.5), or all sines come first, as in Marian."""
    scale_embeddings: Literal["sqrt", "none"] = "sqrt"
    """Multiply embeddings by sqrt(d_model) (section 3.4), or leave them unscaled (none)."""
    biases: Literal["feed_forward", "all"] = "feed_forward"
    """Biases in the feed-forward layers only (sections 3.2.2 and 3.3), or also in attention and projection (all)."""
    norm_epsilon: float = 1e-6
    """Constant added to the variance in layer normalization."""
    attention: Literal["xla", "cudnn", "pallas"] = "xla"
    """Implementation of attention in training: XLA's, or a fused kernel for NVIDIA GPUs (cudnn) or TPUs (pallas). The
    kernels save memory for long rows."""

    def __post_init__(self) -> None:
        require_at_least(self, "model", 1, "d_model", "d_ff", "heads", "encoder_layers", "decoder_layers")
        if self.d_model % self.heads:
            raise InputError(
                f"model.heads {self.heads} does not divide model.d_model {self.d_model}. "
                f"Set --model.heads to a divisor of {self.d_model}."
            )
        if self.d_model % 2:
            raise InputError(
                f"model.d_model {self.d_model} is odd, but sinusoids come in pairs. "
                "Set --model.d-model to an even number."
            )
        require_below_one(self, "model", "dropout")
        require_positive(self, "model", "norm_epsilon")


@dataclass(frozen=True)
class DataConfig:
    """Sentence pairs and batching."""

    train: str = "phrasebook"
    """Training pairs: path/train.{lang}.gz, a .tsv, .jsonl or .parquet file, also with gs://, s3:// or https:// in
    front, hf://OWNER/NAME, tfds://NAME/CONFIG, or phrasebook.
    """
    valid: str = "phrasebook"
    """Validation pairs, in the same notation as data.train."""
    test: str = "phrasebook"
    """Test pairs, in the same notation as data.train. They are scored once, at the end of training."""
    source: str = "en"
    """Source language: replaces {lang} in a path and selects the source column."""
    target: str = "de"
    """Target language: replaces {lang} in a path and selects the target column."""
    on_error: Literal["refuse", "skip"] = "refuse"
    """Action for an invalid training row (not UTF-8, blank, a missing column, ...): stop and report the row (refuse),
    or skip and count the pair (skip). Validation and test rows are never skipped.
    """
    max_length: int = 128
    """Maximum sentence length in tokens, including [SOS] or [EOS]. Longer training pairs are excluded and counted.
    Longer lines are split before translation.
    """
    batching: Literal["packed", "buckets"] = "packed"
    """Pack several sentences into each row (packed), or put one sentence into each row (buckets)."""
    row_length: int = 64
    """Row length in tokens for packed batching, at most max_length. Longer pairs go into rows of length max_length. If
    the longest pair is at most 25% longer than row_length, its length may replace both (docs/performance.md).
    """
    batch_tokens: int = 4096
    """Target tokens per update over all devices, including padding."""
    buckets: int = 5
    """Number of row lengths for bucketed batching. The training step is compiled once per length."""

    def __post_init__(self) -> None:
        require_at_least(self, "data", 2, "max_length", "row_length")
        require_at_least(self, "data", 1, "batch_tokens", "buckets")
        if self.batch_tokens < self.max_length:
            raise InputError(
                f"data.batch_tokens {self.batch_tokens} is less than data.max_length {self.max_length}, so the longest "
                f"allowed sentence does not fit in a batch. Set --data.batch-tokens to at least {self.max_length}, or "
                "lower --data.max-length."
            )


@dataclass(frozen=True)
class TokenizerConfig:
    """The conversion between text and token ids."""

    kind: Literal["word", "bpe", "wordpiece", "unigram", "sentencepiece"] = "bpe"
    """Tokenizer type: whole words, byte-level BPE (lossless), WordPiece or Unigram. The type sentencepiece is only
    available in imported models.
    """
    vocabulary: Literal["joint", "separate"] = "joint"
    """One vocabulary for both languages (joint), or one per language (separate)."""
    size: int = 8000
    """Maximum vocabulary size, including special tokens."""
    normalization: Literal["none", "text"] = "none"
    """Read sources as they are (none), or with plain spaces and the quotes and dashes of the training text (text)."""

    def __post_init__(self) -> None:
        if self.size < 5:
            raise InputError(
                f"tokenizer.size is {self.size}, which is too small for the four special tokens and one other token. "
                "Set --tokenizer.size to at least 5, or to at least 260 for bpe."
            )


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam with warm-up (Vaswani et al. 2017, section 5.3)."""

    schedule: Literal["inverse_sqrt", "cosine"] = "inverse_sqrt"
    """Learning-rate decay after the warm-up: the paper's inverse square root of the step (inverse_sqrt), or half a
    cosine that reaches zero at the last step (cosine).
    """
    factor: float = 1.0
    """Multiplier of the learning rate. The peak is factor / sqrt(d_model * warmup)."""
    warmup: int = 4000
    """Number of updates of linear warm-up."""
    beta1: float = 0.9
    """Adam's decay rate of the first moment."""
    beta2: float = 0.98
    """Adam's decay rate of the second moment."""
    epsilon: float = 1e-9
    """Constant added to Adam's denominator."""
    clip_norm: float = 1.0
    """Maximum global norm of the gradients; larger gradients are scaled down to it. 0 disables clipping."""

    def __post_init__(self) -> None:
        require_at_least(self, "optimizer", 1, "warmup")
        require_positive(self, "optimizer", "factor", "epsilon")
        require_below_one(self, "optimizer", "beta1", "beta2")
        require_at_least(self, "optimizer", 0, "clip_norm")


@dataclass(frozen=True)
class TrainingConfig:
    """The training loop."""

    steps: int = 100_000
    """Number of optimizer updates."""
    label_smoothing: float = 0.1
    """Label smoothing: fraction of the target probability spread over the vocabulary (section 5.4)."""
    r_drop: float = 0.0
    """R-Drop: weight of the divergence between two forward passes with different dropout masks. 0 disables R-Drop and
    runs one pass.
    """
    accumulate: int = 1
    """Number of micro-batches per update. Accumulating their gradients saves memory."""
    remat: Literal["none", "blocks"] = "none"
    """Keep all activations for the backward pass (none), or only the inputs of the encoder and decoder blocks (blocks).
    That saves memory, but computes every block twice."""
    ema: float = 0.0
    """Decay rate of the moving average of the weights. Validation and translation use the average. 0 disables
    averaging.
    """
    seed: int = 0
    """Random seed of initialization, dropout and data order."""
    log_every: int = 50
    """Number of updates between two reports of metrics."""
    valid_every: int = 1000
    """Number of updates between two validations. A checkpoint is saved after each validation."""
    save_every: int = 0
    """Number of updates between additional checkpoints. 0 saves checkpoints only after validations."""
    valid_sentences: int = 500
    """Number of validation sentences translated to compute BLEU. The loss always covers all sentences."""
    patience: int = 0
    """Stop after this many consecutive validations without a better score. 0 disables early stopping."""
    max_skipped: int = 10
    """Stop after this many consecutive updates with non-finite loss or gradients. Each of these updates is skipped. In
    float16, updates that halve the scale of the loss do not count.
    """
    init: str = ""
    """Run directory, or hf://OWNER/NAME, gs:// or s3://, that provides the initial weights, the tokenizers and the
    model configuration. Default: random initialization.
    """

    def __post_init__(self) -> None:
        require_at_least(
            self, "training", 1, "steps", "accumulate", "log_every", "valid_every", "valid_sentences", "max_skipped"
        )
        if not 0 <= self.seed < 2**32:  # jax.random.key would use only the last 32 bits of a larger seed.
            raise InputError(f"training.seed is {self.seed}. Set --training.seed to an integer from 0 to {2**32 - 1}.")
        require_at_least(self, "training", 0, "save_every", "patience", "r_drop")
        require_below_one(self, "training", "label_smoothing", "ema")


@dataclass(frozen=True)
class MeshConfig:
    """The device mesh. The product of its sizes must equal the number of devices.

    One of the sizes may be -1, which uses all remaining devices.
    """

    data: int = -1
    """Number of model replicas, each with its own shard of the batch. -1 uses all remaining devices."""
    fsdp: int = 1
    """Number of devices over which parameters, optimizer state and batch are sharded."""
    tensor: int = 1
    """Number of devices over which heads, feed-forward width and vocabulary are sharded."""


@dataclass(frozen=True)
class DecodingConfig:
    """Default beam-search settings. Translation can override them."""

    beam: int = 4
    """Beam size: the number of hypotheses per sentence. 1 is greedy search."""
    length_penalty: float = 0.6
    """Length penalty alpha: scores are divided by ((5 + length) / 6) ** alpha (Wu et al. 2016, equation 14)."""

    def __post_init__(self) -> None:
        require_at_least(self, "decoding", 1, "beam")
        if not 0 <= self.length_penalty <= 10:
            raise InputError(
                f"decoding.length_penalty is {self.length_penalty}. "
                "Set --decoding.length-penalty to a number from 0 to 10."
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """Scores of translations."""

    tokenize: Literal["auto", "13a", "intl", "zh", "char", "ja-mecab", "ko-mecab", "none"] = "auto"
    """sacreBLEU tokenizer. auto follows data.target: zh for Chinese, char for Japanese, Korean, Thai, Lao, Khmer and
    Burmese, 13a for all others. ja-mecab and ko-mecab need an additional package.
    """


@dataclass(frozen=True)
class Config:
    """The configuration of one run: a recipe with the command-line overrides applied."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.model.share_embeddings == "all" and self.tokenizer.vocabulary == "separate":
            raise InputError(
                "model.share_embeddings all needs a joint vocabulary, but tokenizer.vocabulary is separate. "
                "Set --tokenizer.vocabulary joint or --model.share-embeddings target."
            )
        if self.training.r_drop and not self.model.dropout:
            raise InputError(
                f"training.r_drop is {self.training.r_drop} but model.dropout is 0, so both passes over a batch would "
                "be identical. Set --model.dropout to a number above 0, or set --training.r-drop 0."
            )


def flatten(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields of all sections of a config by their full names, such as ``model.d_model``."""
    return {f"{section}.{name}": value for section, fields in sections.items() for name, value in fields.items()}


def save_config(config: Config, path: Path) -> None:
    """Write the config and the format version of the run directory as JSON."""
    atomic.write_text(path, json.dumps({"format": RUN_FORMAT, **dataclasses.asdict(config)}, indent=2) + "\n")


def load_config(path: Path) -> Config:
    """Read a config written by ``save_config``. Fields missing from its format get their defaults.

    Raises InputError if the format is not supported, if a section is missing, or if a section or a field is unknown or
    invalid.
    """
    try:
        values = json.loads(path.read_text())
        version = values.pop("format")
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not the config of a run ({error!r}). Restore the file or train again.") from error
    if version not in READABLE_FORMATS:
        *others, newest = READABLE_FORMATS
        raise InputError(
            f"{path} has format {version}, but this version of transformer_jax reads formats "
            f"{', '.join(map(str, others))} and {newest}. Use the version that wrote the file."
        )
    sections: dict[str, Any] = {}
    for section in dataclasses.fields(Config):
        if section.name not in values:
            if version < ADDED_SECTIONS.get(section.name, 0):
                continue
            raise InputError(f"{path} has no section {section.name}. Restore the file or train again.")
        section_class: Any = section.default_factory
        try:
            section_values = values.pop(section.name)
            require_types(section_class, section_values)
            sections[section.name] = section_class(**section_values)
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}, section {section.name}: {error}. Restore the file or train again.") from error
    if values:
        raise InputError(f"{path} has an unknown section, {min(values)}. Use the version that wrote the file.")
    return Config(**sections)
