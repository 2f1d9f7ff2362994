"""Readers of tables with named columns: Parquet files, Hugging Face data sets and TensorFlow Datasets (TFDS).

Rows stay on disk: at most ROWS_PER_READ rows are in memory at a time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformer_jax.data.records import (
    Pair,
    Records,
    Split,
    language_value,
    require_language,
    summarize_error,
    validate_text,
)
from transformer_jax.data.text_files import require_file
from transformer_jax.errors import InputError
from transformer_jax.terminal import quote

ROWS_PER_READ = 1000
"""Number of rows fetched per read."""
SPLIT_NAMES: dict[Split, str] = {"train": "train", "valid": "validation", "test": "test"}
"""Role of the data -> name of its split on Hugging Face and in TFDS."""


def open_parquet(path: Path, source: str, target: str) -> Records:
    """Open a Parquet file. Only the columns of the two languages are read."""
    import pyarrow
    import pyarrow.parquet

    require_file(path)

    def damaged(error: Exception) -> InputError:
        problem = f"{path} is not a complete Parquet file ({summarize_error(error)})."
        return InputError(f"{problem} Create or download it again.")

    try:
        file = pyarrow.parquet.ParquetFile(path)
        names, prefix = file.schema_arrow.names, ""
        if "translation" in names and pyarrow.types.is_struct(kind := file.schema_arrow.field("translation").type):
            names, prefix = [field.name for field in kind], "translation."
    except Exception as error:  # pyarrow raises many types for damaged files.
        raise damaged(error) from error
    for language in (source, target):
        require_language(names, language, str(path))
    columns = [prefix + language for language in (source, target)]

    def read() -> Iterator[tuple[Any, Any]]:
        try:
            for batch in file.iter_batches(ROWS_PER_READ, columns=columns):
                table = pyarrow.Table.from_batches([batch]).flatten()
                yield from zip(*(values(table.column(name)) for name in columns), strict=True)
        except Exception as error:  # As above.
            raise damaged(error) from error

    def values(column: Any) -> list[Any]:
        # Strings are read as bytes, so that the error about invalid UTF-8 can name the row.
        return (column.cast(pyarrow.binary()) if pyarrow.types.is_string(column.type) else column).to_pylist()

    def parse(index: int, texts: tuple[Any, Any]) -> Pair:
        return Pair(
            *(
                validate_text(text, f"{path}, row {index}, {language!r},")
                for text, language in zip(texts, (source, target), strict=True)
            )
        )

    return Records(read, parse, files=[path])


def open_hf(name: str, source: str, target: str, split: Split) -> Records:
    """Open a data set from the Hugging Face hub or a local directory, memory-mapped.

    name: the locator without ``hf://``.
    """
    import datasets

    name, split_name = parse_query(name, split)
    name, _, config = name.partition(":")
    location = f"hf://{name}" + (f":{config}" if config else "")
    try:
        rows = datasets.load_dataset(name, config or None, split=split_name)
    except ConnectionError as error:
        raise InputError(
            f"{location} is not reachable ({summarize_error(error)}). On a machine with network access, run: "
            f"hf download --repo-type dataset {quote(name)} --local-dir DIR; then copy DIR here and use hf:///path/to/DIR."
        ) from error
    except Exception as error:  # The library raises many types for wrong names, configs, splits and files.
        problem = f"{location}?split={split_name}: {summarize_error(error)}."
        raise InputError(f"{problem} Check name, config and split.") from error
    return table_records(rows, source, target, f"{location}?split={split_name}", rows._fingerprint)


def open_tfds(name: str, source: str, target: str, split: Split) -> Records:
    """Open the array_record files of a TFDS data set, after preparing them if needed. TensorFlow is not used.

    name: the locator without ``tfds://``.
    """
    try:
        import array_record  # noqa: F401
        import importlib_resources  # noqa: F401
        import tensorflow_datasets
        import tensorflow_datasets.translate  # Registers the translation data sets.
    except ImportError as error:
        raise InputError(
            f"tfds://{name} needs {error.name}. Run: pip install tensorflow-datasets array_record importlib_resources"
        ) from error
    name, split_name = parse_query(name, split)
    location = f"tfds://{name}?split={split_name}"
    try:
        rows = tensorflow_datasets.data_source(
            name,
            split=split_name,
            data_dir=os.environ.get("TFDS_DATA_DIR"),
            builder_kwargs={"file_format": "array_record"},
        )
    except OSError as error:
        raise InputError(
            f"{location} is not available ({summarize_error(error)}). Prepare it on a machine with network access, "
            "copy the directory TFDS_DATA_DIR (default: ~/tensorflow_datasets) of that machine here, and set "
            "TFDS_DATA_DIR to the copy."
        ) from error
    except Exception as error:  # The library raises many types for wrong names, configs, splits and files.
        reason = summarize_error(error).partition(" Available datasets:")[0]  # The list has hundreds of names.
        raise InputError(
            f"{location}: {reason.rstrip('.')}. Check name, config, split and format (array_record)."
        ) from error
    # The name of the directory consists of data set, config and version.
    return table_records(rows, source, target, location, f"{rows.dataset_info.data_dir}?split={split_name}")


def table_records(table: Any, source: str, target: str, location: str, fingerprint: str) -> Records:
    """Return the rows of a Hugging Face or TFDS data set as records. Blank sentences are allowed."""

    def read() -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(table), ROWS_PER_READ):
            try:
                rows = table.__getitems__(list(range(start, min(start + ROWS_PER_READ, len(table)))))
            except Exception as error:  # The libraries raise many types for damaged files.
                problem = f"{location} is not readable ({summarize_error(error)})."
                raise InputError(f"{problem} Download or prepare the data set again.") from error
            yield from rows

    def parse(index: int, row: Mapping[str, Any]) -> Pair:
        row_location = f"{location}, row {index}"
        return Pair(
            *(
                validate_text(language_value(row, language, row_location), f"{row_location}, {language!r},", "allow")
                for language in (source, target)
            )
        )

    for row in itertools.islice(read(), 1):
        for language in (source, target):
            language_value(row, language, location)  # Reports a wrong language before training starts.
    return Records(read, parse, fingerprint)


def parse_query(name: str, split: Split) -> tuple[str, str]:
    """Parse a locator and return the data set name and the name of the library's split.

    split: role of the data, such as "train". It determines the library's split if the locator has no query.
    Raises InputError if the query is not ``?split=...``.
    """
    name, _, query = name.partition("?")
    key, _, value = query.partition("=")
    if query and (key != "split" or not value):
        raise InputError(f"{name}: ?{query} is invalid. Use ?split=..., for example ?split=train[:90%].")
    return name, value or SPLIT_NAMES[split]
