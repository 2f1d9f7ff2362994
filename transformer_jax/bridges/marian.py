"""MarianMT models, such as those of OPUS-MT, as run folders.

    python -m transformer_jax import Helsinki-NLP/opus-mt-en-de --workdir runs/opus-mt-en-de

Source: Junczys-Dowmunt et al. 2018 (Marian); Tiedemann and Thottingal 2020 (OPUS-MT); the files are those of Hugging
Face's ``transformers``.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.bridges.tensors import WEIGHTS, Tensors, read_tensors
from transformer_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig, save_config
from transformer_jax.data.sentencepieces import SentencePieceTokenizer
from transformer_jax.data.tokenizers import Tokenizer, Tokenizers, save_tokenizers
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.storage import atomic
from transformer_jax.storage.checkpoints import Checkpoints, Progress
from transformer_jax.storage.untrusted import MAX_JSON_BYTES
from transformer_jax.training.state import TrainState

NEEDED = ("config.json", "source.spm", "target.spm", "vocab.json")
OPTIONAL = ("target_vocab.json", "tokenizer_config.json")
"""The second vocabulary of models that have two; the languages."""

SIZES = {
    "d_model": "d_model",
    "encoder_ffn_dim": "d_ff",
    "encoder_attention_heads": "heads",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
}
"""Numbers in Marian's config.json -> our names."""
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "normalize_before": (False,),
    "normalize_embedding": (False,),
    "add_final_layer_norm": (False,),
    "static_position_embeddings": (True,),
    "scale_embedding": (False, True),
    "share_encoder_decoder_embeddings": (True, False),
    "tie_word_embeddings": (True, False),
}
"""Words in it -> values that can be imported, first the one that a missing word has."""
ACTIVATIONS: dict[str, Literal["relu", "swish"]] = {"relu": "relu", "swish": "swish", "silu": "swish"}

NAMES = {
    "encoder/blocks_": "model.encoder.layers.",
    "decoder/blocks_": "model.decoder.layers.",
    "feed_forward_residual/normalization": "final_layer_norm",
    "cross_residual/normalization": "encoder_attn_layer_norm",
    "attention_residual/normalization": "self_attn_layer_norm",
    "self_residual/normalization": "self_attn_layer_norm",
    "feed_forward/widen": "fc1",
    "feed_forward/narrow": "fc2",
    "self_attention": "self_attn",
    "cross_attention": "encoder_attn",
    "w_query": "q_proj",
    "w_key": "k_proj",
    "w_value": "v_proj",
    "w_output": "out_proj",
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "projection/bias": "final_logits_bias",
    "/": ".",
}
"""Parts of our parameters' paths -> theirs, to be replaced in this order."""
SOURCE, TARGET = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
SHARED, LOGITS, BIAS = "model.shared.weight", "lm_head.weight", "final_logits_bias"
TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "all": {"target_embeddings/table": (SHARED, TARGET, SOURCE, LOGITS)},
    "target": {"source_embeddings/table": (SOURCE,), "target_embeddings/table": (TARGET, LOGITS)},
    "none": {
        "source_embeddings/table": (SOURCE,),
        "target_embeddings/table": (TARGET,),
        "projection/table": (LOGITS,),
    },
}
"""By what shares one table: path of ours -> names of theirs. A file may hold a shared one under any of its names."""
UNUSED = {SHARED, SOURCE, TARGET, LOGITS, *(f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder"))}
"""Tensors that a file may have besides those that are read: copies of shared tables, and the sinusoids."""


def import_marian(model: str, workdir: Path) -> None:
    """Make the run folder ``workdir`` of a model in a folder or on the Hugging Face hub.

    Raises InputError, and leaves nothing behind, if the folder is taken, a file is missing or damaged, the model has
    what this package does not, or its files do not agree.
    """
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(f"{workdir} is not empty. Name another --workdir.")
    if importlib.util.find_spec("sentencepiece") is None:  # Said before a download, with what most weights need.
        raise InputError("the import needs sentencepiece and safetensors. Run: pip install sentencepiece safetensors")
    folder = Path(model) if Path(model).is_dir() else download(model)
    values = read_json(folder / "config.json")
    network = model_config(values, folder / "config.json")
    tokenizers = read_tokenizers(folder, values)
    params = parameters(read_tensors(folder), network, tokenizers, folder)
    config = Config(
        model=network,
        data=data_config(folder, values),
        tokenizer=TokenizerConfig(
            kind="sentencepiece",
            vocabulary="joint" if network.share_embeddings == "all" else "separate",
            size=max(map(len, tokenizers)),
        ),
    )
    unfinished = atomic.partial_path(workdir)
    try:
        unfinished.mkdir(parents=True)
        write_run(unfinished, config, tokenizers, params)
        unfinished.rename(workdir)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def download(name: str) -> Path:
    """The folder to which the files of a model on the Hugging Face hub are downloaded, or were before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        for weights in WEIGHTS:
            folder = Path(snapshot_download(name, allow_patterns=[*NEEDED, *OPTIONAL, weights]))
            if (folder / weights).exists():
                break
        return folder
    except HFValidationError as error:
        raise InputError(f"{name} is no folder, and no name on the hub. Name a folder or OWNER/NAME.") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name} is no folder, and cannot be downloaded. Put {', '.join(NEEDED)}, {' or '.join(WEIGHTS)}, and if "
            f"there are any {', '.join(OPTIONAL)} of https://huggingface.co/{name}/tree/main into a folder; name that."
        ) from error


def read_bytes(path: Path) -> bytes:
    """A file that is not a file of weights. Raises InputError if it is missing or larger than any real one."""
    if not path.is_file():
        raise InputError(f"{path} is missing. Copy it there from the same model.")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path} has over {MAX_JSON_BYTES // 2**20} MiB. Copy it again.")
    return path.read_bytes()


def read_json(path: Path) -> dict[str, Any]:
    """An object in JSON. Raises InputError for anything else."""
    try:
        values = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON. Copy it again.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not an object in JSON. Copy it again.")
    return values


def model_config(values: dict[str, Any], path: Path) -> ModelConfig:
    """The network that Marian's config.json describes. Raises InputError, naming it, for what this package lacks."""

    def require(name: str, allowed: tuple[Any, ...]) -> Any:
        value = values.get(name, allowed[0] if name in SUPPORTED else None)
        if value not in allowed:
            can = " or ".join(map(repr, allowed))
            raise InputError(f"{path}: {name} is {value!r}, and only {can} can be imported. Choose another model.")
        return value

    require("model_type", ("marian",))
    words = {name: require(name, allowed) for name, allowed in SUPPORTED.items()}
    for name in ("vocab_size", *SIZES):
        if type(values.get(name)) is not int:
            raise InputError(f"{path}: {name} is {values.get(name)!r}, which is no number. Copy it again.")
    for side in ("ffn_dim", "attention_heads"):
        require(f"decoder_{side}", (values[f"encoder_{side}"],))
    require("decoder_start_token_id", (values.get("pad_token_id"),))
    share, tie = words["share_encoder_decoder_embeddings"], words["tie_word_embeddings"]
    if share:
        require("tie_word_embeddings", (True,))
    dropout = values.get("dropout", 0.1)
    return ModelConfig(
        **{ours: values[theirs] for theirs, ours in SIZES.items()},
        dropout=dropout if isinstance(dropout, (int, float)) else 0.1,
        share_embeddings="all" if share else "target" if tie else "none",
        activation=ACTIVATIONS[require("activation_function", tuple(ACTIVATIONS))],
        positions="halves",
        scale_embeddings="sqrt" if words["scale_embedding"] else "none",
        biases="all",
        norm_epsilon=1e-5,
    )


def data_config(folder: Path, values: dict[str, Any]) -> DataConfig:
    """The longest sentence, and the languages if the model's files name them."""
    length = values.get("max_position_embeddings")
    longest = length if type(length) is int and length >= 2 else 512
    extra = tokenizer_config(folder)
    source, target = (str(extra.get(f"{side}_lang") or side) for side in Tokenizers._fields)
    return DataConfig(source=source, target=target, max_length=longest, batch_tokens=max(4096, longest))


def tokenizer_config(folder: Path) -> dict[str, Any]:
    """What the model's files say of languages and vocabularies, if anything."""
    return read_json(folder / OPTIONAL[1]) if (folder / OPTIONAL[1]).exists() else {}


def read_tokenizers(folder: Path, values: dict[str, Any]) -> Tokenizers:
    """Each side's SentencePiece model with its vocabulary. Raises InputError if they and config.json do not agree."""
    shared = values.get("share_encoder_decoder_embeddings", True)
    second = not shared and ((folder / OPTIONAL[0]).exists() or tokenizer_config(folder).get("separate_vocabs"))
    vocabularies = {"source": "vocab.json", "target": OPTIONAL[0] if second else "vocab.json"}
    sizes = {"source": values["vocab_size"], "target": values["vocab_size"]}
    if not shared:
        sizes["target"] = values.get("decoder_vocab_size") or values["vocab_size"]
    return Tokenizers(
        *(
            read_tokenizer(folder / f"{side}.spm", folder / vocabularies[side], sizes[side], values)
            for side in Tokenizers._fields
        )
    )


def read_tokenizer(model: Path, vocabulary: Path, size: int, values: dict[str, Any]) -> Tokenizer:
    """One side's tokenizer, whose ids are the model's own."""
    ids = read_json(vocabulary)
    numbers = [number for number in ids.values() if type(number) is int]
    if not len(ids) == len(numbers) == size or sorted(numbers) != list(range(size)):
        raise InputError(
            f"{vocabulary} has {len(ids)} pieces, which do not have the ids 0 to {size - 1} that config.json says. "
            "Copy both again from the same model."
        )
    try:
        tokenizer = Tokenizer(SentencePieceTokenizer(read_bytes(model), sorted(ids, key=lambda piece: ids[piece])))
    except (ValueError, TypeError) as error:
        raise InputError(f"{model} and {vocabulary} cannot be used: {error}. Copy them again.") from error
    for name, there in (("pad_token_id", tokenizer.pad_id), ("eos_token_id", tokenizer.eos_id)):
        if values.get(name) != there:
            raise InputError(
                f"config.json says {name} {values.get(name)}, {vocabulary} says {there}. "
                "Copy both again from the same model."
            )
    return tokenizer


def parameters(tensors: Tensors, network: ModelConfig, tokenizers: Tokenizers, folder: Path) -> Any:
    """The parameters under our names. Raises InputError for a tensor that is missing, misshapen or has no place."""
    if network.encoder_layers + network.decoder_layers > len(tensors):  # Millions would take hours to describe.
        raise InputError(f"{folder}: config.json has more layers than there are tensors. Copy both again.")
    model = Transformer(network, len(tokenizers.source), len(tokenizers.target))
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    try:
        shapes = jax.eval_shape(model.init, jax.random.key(0), *[tokens] * 4)["params"]
    except OverflowError as error:
        raise InputError(f"{folder}: no model has sizes such as those in config.json ({error}).") from error
    read = set()

    def convert(path: Any, leaf: Any) -> np.ndarray:
        ours = jax.tree_util.keystr(path, simple=True, separator="/")
        names = their_names(ours, network)
        name = next((name for name in names if name in tensors), names[0])
        read.add(name)
        expected = leaf.shape[::-1] if ours.endswith("kernel") else leaf.shape
        found = tensors.get(name)
        if name == BIAS:  # A row in their files, and left out of some.
            expected = (1, *leaf.shape)
            found = np.zeros(expected, np.float32) if found is None else found
        if found is None or found.shape != expected:
            problem = "is missing" if found is None else f"has the shape {found.shape}"
            raise InputError(
                f"{folder}: tensor {name} {problem}, config.json asks for {expected}. Copy both again from one model."
            )
        return np.ascontiguousarray(found.T if ours.endswith("kernel") else found).reshape(leaf.shape)

    params = jax.tree_util.tree_map_with_path(convert, shapes)
    if unknown := sorted(tensors.keys() - read - UNUSED):
        raise InputError(f"{folder}: tensor {unknown[0]} has no place in this package's model. Choose another model.")
    return params


def their_names(path: str, network: ModelConfig) -> tuple[str, ...]:
    """Marian's names of a parameter: one, but for shared tables."""
    if path in TABLES[network.share_embeddings]:
        return TABLES[network.share_embeddings][path]
    for ours, theirs in NAMES.items():
        path = path.replace(ours, theirs)
    return (path,)


def write_run(folder: Path, config: Config, tokenizers: Tokenizers, params: Any) -> None:
    """Write a run whose one checkpoint holds weights alone: there is nothing yet that training could go on from."""
    save_config(config, folder / "config.json")
    save_tokenizers(tokenizers, folder)
    one, none = jnp.ones((), jnp.int32), jnp.zeros((), jnp.int32)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(TrainState(one, params, (), None, jax.random.key(0), none), Progress(best_step=1))
    atomic.sync(folder)
