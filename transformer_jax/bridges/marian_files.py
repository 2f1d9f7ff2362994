"""Files of a MarianMT model: download from the Hugging Face hub, and reading of untrusted JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformer_jax.bridges.tensors import WEIGHT_FILES
from transformer_jax.data.records import summarize_error
from transformer_jax.errors import InputError
from transformer_jax.storage.caches import is_hf_cache_failure, prepare_hf_caches
from transformer_jax.storage.untrusted import MAX_JSON_BYTES

REQUIRED_FILES = ("config.json", "source.spm", "target.spm", "vocab.json")
OPTIONAL_FILES = (
    TARGET_VOCABULARY := "target_vocab.json",
    TOKENIZER_CONFIG := "tokenizer_config.json",
    ADDED_TOKENS := "added_tokens.json",
    SPECIAL_TOKENS := "special_tokens_map.json",
    GENERATION_CONFIG := "generation_config.json",
)
"""Files of the target vocabulary (in models with two vocabularies), the languages, tokens outside the vocabulary, and
the beam size.
"""


def download_model(name: str) -> Path:
    """Download a model from the Hugging Face hub, unless it is cached, and return its directory.

    Raises InputError if the name is invalid or the download fails.
    """
    prepare_hf_caches()
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
        if is_hf_cache_failure(error):
            problem = f"{name}: the download failed ({summarize_error(error)})."
            raise InputError(f"{problem} Set HF_HOME to a writable directory with free space.") from error
        raise InputError(
            f"{name} is not a directory, and the download failed. Check the name and the network connection, or "
            f"download {', '.join(REQUIRED_FILES)}, {' or '.join(WEIGHT_FILES)}, and if present "
            f"{', '.join(OPTIONAL_FILES)}, from https://huggingface.co/{name}/tree/main into a directory, and "
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


def read_optional_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, empty if the file does not exist."""
    return read_json(path) if path.exists() else {}
