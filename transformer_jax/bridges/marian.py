"""Import of MarianMT models, such as those of OPUS-MT, as run directories.

    python -m transformer_jax import Helsinki-NLP/opus-mt-en-de --workdir runs/opus-mt-en-de

The files have the format of Hugging Face's ``transformers``.

Sources: Junczys-Dowmunt et al. 2018 (Marian); Tiedemann and Thottingal 2020 (OPUS-MT).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from pathlib import Path
from typing import Any, Literal

from transformer_jax.bridges.marian_files import (
    GENERATION_CONFIG,
    TOKENIZER_CONFIG,
    download_model,
    read_json,
    read_optional_json,
)
from transformer_jax.bridges.marian_parameters import convert_parameters
from transformer_jax.bridges.marian_vocabulary import read_tokenizers
from transformer_jax.bridges.tensors import read_tensors
from transformer_jax.bridges.weights_only_run import write_run
from transformer_jax.config import Config, DataConfig, DecodingConfig, ModelConfig, TokenizerConfig
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

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


def import_marian(model: str, workdir: Path) -> list[str]:
    """Create the run directory ``workdir`` from a MarianMT model.

    Return lines that state the decoding settings of the run, and what was left out.

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
    decoding, decoding_notes = make_decoding_config(directory, marian_config)
    tokenizers, vector_counts, vocabulary_notes = read_tokenizers(directory, marian_config)
    params = convert_parameters(read_tensors(directory), model_config, tokenizers, vector_counts, directory)
    config = Config(
        model=model_config,
        data=make_data_config(directory, marian_config),
        tokenizer=TokenizerConfig(
            kind="sentencepiece",
            vocabulary="joint" if model_config.share_embeddings == "all" else "separate",
            size=max(map(len, tokenizers)),
        ),
        decoding=decoding,
    )
    unfinished = atomic.partial_path(workdir)
    try:
        unfinished.mkdir(parents=True)
        write_run(unfinished, config, tokenizers, params)
        unfinished.rename(workdir)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return vocabulary_notes + decoding_notes


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
    """Return a data config with the model's maximum sentence length and its languages (default: ``und``)."""
    positions = marian_config.get("max_position_embeddings")
    max_length = positions if type(positions) is int and positions >= 2 else 512
    tokenizer_config = read_optional_json(directory / TOKENIZER_CONFIG)
    source, target = (str(tokenizer_config.get(f"{side}_lang") or "und") for side in Tokenizers._fields)
    return DataConfig(source=source, target=target, max_length=max_length, batch_tokens=max(4096, max_length))


def make_decoding_config(directory: Path, marian_config: dict[str, Any]) -> tuple[DecodingConfig, list[str]]:
    """Return the decoding settings that mean the same in ``transformers``, and lines that state their origin.

    The number of beams means the same. The length penalty only does if it is 0, because ``transformers`` divides a
    score by length ** penalty, not by the formula of ``DecodingConfig.length_penalty``.

    Raises InputError for an invalid value.
    """
    # Older models have these fields in config.json.
    files = {GENERATION_CONFIG: read_optional_json(directory / GENERATION_CONFIG), "config.json": marian_config}

    def find(name: str) -> tuple[Any, str]:
        return next(((file[name], path) for path, file in files.items() if file.get(name) is not None), (None, ""))

    config, notes = DecodingConfig(), []
    beam, path = find("num_beams")
    if beam is None:
        notes.append(f"Beam size {config.beam}, the default, because the model's files do not set num_beams.")
    elif type(beam) is int and beam >= 1:
        config = dataclasses.replace(config, beam=beam)
        notes.append(f"Beam size {beam}, from num_beams in {path}.")
    else:
        raise InputError(f"{directory / path}: num_beams is {beam!r}. Set it to a positive integer or delete it.")
    penalty, path = find("length_penalty")
    if penalty == 0:
        config = dataclasses.replace(config, length_penalty=0.0)
        notes.append(f"No length penalty, from length_penalty 0 in {path}.")
    elif penalty is not None:
        notes.append(
            f"Length penalty {config.length_penalty}, the default. length_penalty {penalty!r} in {path} is not used, "
            "because transformers divides by length ** penalty and this package by ((5 + length) / 6) ** penalty."
        )
    return config, notes
