"""Import of MarianMT models, such as those of OPUS-MT, as run directories.

    python -m transformer_jax import Helsinki-NLP/opus-mt-en-de --workdir runs/opus-mt-en-de

The files have the format of Hugging Face's ``transformers``.

Sources: Junczys-Dowmunt et al. 2018 (Marian); Tiedemann and Thottingal 2020 (OPUS-MT).
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from transformer_jax.bridges.marian_parameters import convert_parameters
from transformer_jax.bridges.tensors import WEIGHT_FILES, read_tensors
from transformer_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig, save_config
from transformer_jax.data.sentencepieces import SentencePieceTokenizer
from transformer_jax.data.tokenizers import Tokenizer, Tokenizers, save_tokenizers
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic
from transformer_jax.storage.checkpoints import Checkpoints, Progress
from transformer_jax.storage.untrusted import MAX_JSON_BYTES
from transformer_jax.training.state import TrainState

REQUIRED_FILES = ("config.json", "source.spm", "target.spm", "vocab.json")
TARGET_VOCABULARY, TOKENIZER_CONFIG = OPTIONAL_FILES = ("target_vocab.json", "tokenizer_config.json")
"""Files of the target vocabulary (in models with two vocabularies) and of the languages."""

SIZE_FIELDS = {
    "d_model": "d_model",
    "encoder_ffn_dim": "d_ff",
    "encoder_attention_heads": "heads",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
}
"""Size fields in Marian's config.json -> fields of ``ModelConfig``."""
SUPPORTED_VALUES: dict[str, tuple[Any, ...]] = {
    "normalize_before": (False,),
    "normalize_embedding": (False,),
    "add_final_layer_norm": (False,),
    "static_position_embeddings": (True,),
    "scale_embedding": (False, True),
    "share_encoder_decoder_embeddings": (True, False),
    "tie_word_embeddings": (True, False),
}
"""Other fields in Marian's config.json -> values that can be imported. The first is the default."""
ACTIVATIONS: dict[str, Literal["relu", "swish"]] = {"relu": "relu", "swish": "swish", "silu": "swish"}


def import_marian(model: str, workdir: Path) -> None:
    """Create the run directory ``workdir`` from a MarianMT model.

    model: a directory, or OWNER/NAME on the Hugging Face hub.
    Raises InputError if ``workdir`` is not empty, if a file is missing or damaged, if the files are inconsistent, or if
    the model has features that this package lacks. An error leaves no files behind.
    """
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(f"{workdir} already exists and is not an empty directory. Choose another --workdir.")
    if importlib.util.find_spec("sentencepiece") is None:  # Before the download.
        raise InputError("the import needs sentencepiece and safetensors. Run: pip install sentencepiece safetensors")
    directory = Path(model) if Path(model).is_dir() else download_model(model)
    marian_config = read_json(directory / "config.json")
    model_config = make_model_config(marian_config, directory / "config.json")
    tokenizers = read_tokenizers(directory, marian_config)
    params = convert_parameters(read_tensors(directory), model_config, tokenizers, directory)
    config = Config(
        model=model_config,
        data=make_data_config(directory, marian_config),
        tokenizer=TokenizerConfig(
            kind="sentencepiece",
            vocabulary="joint" if model_config.share_embeddings == "all" else "separate",
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


def download_model(name: str) -> Path:
    """Download a model from the Hugging Face hub, unless it is cached, and return its directory.

    Raises InputError if the name is invalid or the download fails.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        for weights in WEIGHT_FILES:
            files = [*REQUIRED_FILES, *OPTIONAL_FILES, weights]
            directory = Path(snapshot_download(name, allow_patterns=files))
            if (directory / weights).exists():
                break
        return directory
    except HFValidationError as error:
        raise InputError(
            f"{name} is neither a directory nor a valid name on the Hugging Face hub. Use a directory or OWNER/NAME."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name} is not a directory and cannot be downloaded. Check the name and the network connection, or "
            f"download {', '.join(REQUIRED_FILES)}, {' or '.join(WEIGHT_FILES)}, and if present "
            f"{' and '.join(OPTIONAL_FILES)}, from https://huggingface.co/{name}/tree/main into a directory, and "
            "import that directory."
        ) from error


def read_small_file(path: Path) -> bytes:
    """Return the content of a file. Raises InputError if it is missing or implausibly large."""
    if not path.is_file():
        raise InputError(f"{path} is missing. Download the model again.")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path} is larger than {MAX_JSON_BYTES // 2**20} MiB. Download the model again.")
    return path.read_bytes()


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises InputError if the file contains anything else."""
    try:
        content = json.loads(read_small_file(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON. Download the model again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object. Download the model again.")
    return content


def make_model_config(marian_config: dict[str, Any], path: Path) -> ModelConfig:
    """Return the model that Marian's config.json describes.

    path: the path of config.json, for messages.
    Raises InputError for a value that cannot be imported.
    """

    def require(name: str, allowed: tuple[Any, ...]) -> Any:
        value = marian_config.get(name, allowed[0] if name in SUPPORTED_VALUES else None)
        if value not in allowed:
            values = " or ".join(map(repr, allowed))
            raise InputError(f"{path}: {name} is {value!r}, but only {values} can be imported. Choose another model.")
        return value

    require("model_type", ("marian",))
    values = {name: require(name, allowed) for name, allowed in SUPPORTED_VALUES.items()}
    for name in ("vocab_size", *SIZE_FIELDS):
        if type(marian_config.get(name)) is not int:
            raise InputError(
                f"{path}: {name} is {marian_config.get(name)!r}, not an integer. Download the model again."
            )
    for size in ("ffn_dim", "attention_heads"):
        require(f"decoder_{size}", (marian_config[f"encoder_{size}"],))
    require("decoder_start_token_id", (marian_config.get("pad_token_id"),))
    share, tie = values["share_encoder_decoder_embeddings"], values["tie_word_embeddings"]
    if share:
        require("tie_word_embeddings", (True,))
    dropout = marian_config.get("dropout", 0.1)
    return ModelConfig(
        **{our_name: marian_config[name] for name, our_name in SIZE_FIELDS.items()},
        dropout=dropout if isinstance(dropout, (int, float)) else 0.1,
        share_embeddings="all" if share else "target" if tie else "none",
        activation=ACTIVATIONS[require("activation_function", tuple(ACTIVATIONS))],
        positions="halves",
        scale_embeddings="sqrt" if values["scale_embedding"] else "none",
        biases="all",
        norm_epsilon=1e-5,
    )


def make_data_config(directory: Path, marian_config: dict[str, Any]) -> DataConfig:
    """Return a data config with the model's maximum sentence length and, if the files name them, its languages."""
    positions = marian_config.get("max_position_embeddings")
    max_length = positions if type(positions) is int and positions >= 2 else 512
    tokenizer_config = read_tokenizer_config(directory)
    source, target = (str(tokenizer_config.get(f"{side}_lang") or side) for side in Tokenizers._fields)
    return DataConfig(source=source, target=target, max_length=max_length, batch_tokens=max(4096, max_length))


def read_tokenizer_config(directory: Path) -> dict[str, Any]:
    """Return the content of tokenizer_config.json, empty if the file does not exist."""
    path = directory / TOKENIZER_CONFIG
    return read_json(path) if path.exists() else {}


def read_tokenizers(directory: Path, marian_config: dict[str, Any]) -> Tokenizers:
    """Return the tokenizers of both sides: SentencePiece models with the vocabularies of the Marian model.

    Raises InputError if the files are inconsistent with each other or with config.json.
    """
    is_shared = marian_config.get("share_encoder_decoder_embeddings", True)
    target_vocabulary = directory / TARGET_VOCABULARY
    vocabularies = {"source": directory / "vocab.json", "target": directory / "vocab.json"}
    sizes = {"source": marian_config["vocab_size"], "target": marian_config["vocab_size"]}
    if not is_shared:
        sizes["target"] = marian_config.get("decoder_vocab_size") or marian_config["vocab_size"]
        if target_vocabulary.exists() or read_tokenizer_config(directory).get("separate_vocabs"):
            vocabularies["target"] = target_vocabulary
    return Tokenizers(
        *(
            read_tokenizer(directory / f"{side}.spm", vocabularies[side], sizes[side], marian_config)
            for side in Tokenizers._fields
        )
    )


def read_tokenizer(model: Path, vocabulary: Path, size: int, marian_config: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer of one side, with the token ids of the Marian model.

    model: the SentencePiece model.
    vocabulary: the JSON file that maps tokens to ids.
    size: the vocabulary size in config.json.
    Raises InputError if the files are inconsistent with each other or with config.json.
    """
    ids = read_json(vocabulary)
    integers = [number for number in ids.values() if type(number) is int]
    if not len(ids) == len(integers) == size or sorted(integers) != list(range(size)):
        raise InputError(
            f"{vocabulary} does not contain exactly the ids from 0 to {size - 1}, which config.json requires. "
            "Download the model again."
        )
    try:
        tokenizer = Tokenizer(SentencePieceTokenizer(read_small_file(model), sorted(ids, key=lambda piece: ids[piece])))
    except (ValueError, TypeError) as error:
        raise InputError(f"{model} and {vocabulary} are invalid: {error}. Download the model again.") from error
    for name, token_id in (("pad_token_id", tokenizer.pad_id), ("eos_token_id", tokenizer.eos_id)):
        if marian_config.get(name) != token_id:
            raise InputError(
                f"{name} is {marian_config.get(name)} in config.json, but {token_id} in {vocabulary}. "
                "Download the model again."
            )
    return tokenizer


def write_run(workdir: Path, config: Config, tokenizers: Tokenizers, params: Any) -> None:
    """Write a run with one checkpoint that contains parameters but no optimizer state."""
    save_config(config, workdir / "config.json")
    save_tokenizers(tokenizers, workdir)
    step, skipped = jnp.ones((), jnp.int32), jnp.zeros((), jnp.int32)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(TrainState(step, params, (), None, jax.random.key(0), skipped), Progress(best_step=1))
    atomic.sync(workdir)
