"""Readers of tables with named columns: Parquet files, Hugging Face data sets and TensorFlow Datasets (TFDS).

Rows stay on disk: at most ROWS_PER_READ rows are in memory at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from transformer_jax.data.compression import extraction_command, file_format
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
from transformer_jax.storage.caches import WRITE_ERRNOS, is_hf_cache_failure, prepare_hf_caches
from transformer_jax.storage.home import expand_home
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
    other = file_format(path)
    if other is not None and other.name != "a Parquet file":
        raise InputError(
            f"{path} is {other.name}, not Parquet. Convert it ({extraction_command(other, path)}), and rename NEW to "
            "NEW.parquet."
        )

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
    prepare_hf_caches()
    import datasets

    name = expand_home(name[1:] if name.startswith("/~") else name)
    name, split_name, is_explicit = parse_query(name, split)
    if is_saved := is_saved_dataset(name):
        location, config = name, ""
    else:
        name, _, config = name.partition(":")
        location = f"hf://{name}" + (f":{config}" if config else "")
    try:
        if is_saved:
            rows = load_saved_dataset(name, split_name if is_explicit else None, split)
        else:
            rows = datasets.load_dataset(name, config or None, split=split_name)
    except ConnectionError as error:
        raise InputError(
            f"{location} is not reachable ({summarize_error(error)}). On a machine with network access, run: "
            f"hf download --repo-type dataset {quote(name)} --local-dir DIR; then copy DIR here and use hf:///path/to/DIR."
        ) from error
    except Exception as error:  # The library raises many types for wrong names, configs, splits and files.
        problem = f"{location}?split={split_name}: {summarize_error(error)}."
        remedy = "Check the split, or write the data set again." if is_saved else "Check name, config and split."
        if is_hf_cache_failure(error):
            remedy = "Set HF_HOME to a writable directory with free space."
        raise InputError(f"{problem} {remedy}") from error
    table = Table(rows, rows.features, f"{location}?split={split_name}", rows._fingerprint)
    return table_records(table, source, target, split)


def is_saved_dataset(directory: str) -> bool:
    """Return whether ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` has written the directory."""
    names = ("dataset_dict.json", "state.json")
    return bool(directory) and any((Path(directory) / name).is_file() for name in names)


def load_saved_dataset(directory: str, split_name: str | None, split: Split) -> Any:
    """Return rows of a saved data set, memory-mapped.

    split_name: the split in the library's notation, or None. Then a DatasetDict is read like a data set of the hub, and
        a single Dataset is read completely, like a file.
    """
    import datasets

    loaded = datasets.load_from_disk(directory)
    is_single = isinstance(loaded, datasets.Dataset)
    if is_single and split_name is None:
        return loaded
    splits = {str(loaded.split or "train"): loaded} if is_single else loaded
    instruction = datasets.ReadInstruction.from_spec(split_name or SPLIT_NAMES[split])
    slices = instruction.to_absolute({name: len(rows) for name, rows in splits.items()})
    return datasets.concatenate_datasets([splits[part.splitname].select(range(part.from_, part.to)) for part in slices])


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
    name, split_name, _ = parse_query(name, split)
    location = f"tfds://{name}?split={split_name}"
    try:
        directory = expand_home(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    except InputError as error:
        raise InputError(
            f"{location} needs a directory, but the home directory is not known. "
            "Set TFDS_DATA_DIR to a writable directory."
        ) from error
    try:
        rows = tensorflow_datasets.data_source(
            name,
            split=split_name,
            data_dir=directory,
            builder_kwargs={"file_format": "array_record"},
        )
    except OSError as error:
        if error.errno in WRITE_ERRNOS:
            raise InputError(
                f"{directory} is not writable, so {location} is not prepared ({summarize_error(error)}). "
                "Set TFDS_DATA_DIR to a writable directory with free space."
            ) from error
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
    info = rows.dataset_info
    table = Table(rows, dict(info.features.items()), location, f"{info.data_dir}?split={split_name}")
    return table_records(table, source, target, split)


class Table(NamedTuple):
    """The rows of a Hugging Face or TFDS data set.

    rows: the library's object.
    features: name of each column -> the library's description of the column.
    location: data set and split, for messages.
    fingerprint: identifies the content.
    """

    rows: Any
    features: Mapping[str, Any]
    location: str
    fingerprint: str


def table_records(table: Table, source: str, target: str, split: Split) -> Records:
    """Return the rows of a table as records. Blank sentences are allowed.

    split: role of the data. Only training rows can be skipped.
    Raises InputError if the table does not have the languages.
    """
    translation = table.features.get("translation", table.features)
    names = getattr(translation, "languages", translation)
    for language in (source, target):
        require_language(list(names if isinstance(names, Iterable) else table.features), language, table.location)
    remedy = "Set --data.on-error skip, or choose" if split == "train" else "Choose"
    remedy = f"{remedy} other rows, for example with ?split={SPLIT_NAMES[split]}[1:]."

    def read() -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(table.rows), ROWS_PER_READ):
            try:
                rows = table.rows.__getitems__(list(range(start, min(start + ROWS_PER_READ, len(table.rows)))))
            except Exception as error:  # The libraries raise many types for damaged files.
                problem = f"{table.location} is not readable ({summarize_error(error)})."
                raise InputError(f"{problem} Download or prepare the data set again.") from error
            yield from rows

    def parse(index: int, row: Mapping[str, Any]) -> Pair:
        location = f"{table.location}, row {index}"
        values = [language_value(row, language, location) for language in (source, target)]
        return Pair(
            *(
                validate_text(value, f"{location}, {language!r},", "allow", remedy)
                for value, language in zip(values, (source, target), strict=True)
            )
        )

    return Records(read, parse, table.fingerprint)


class Query(NamedTuple):
    """A locator of a library's data set, split into its parts.

    name: name of the data set.
    split: name of the split in the library's notation.
    is_explicit: whether the locator names the split.
    """

    name: str
    split: str
    is_explicit: bool


def parse_query(locator: str, split: Split) -> Query:
    """Parse a locator.

    split: role of the data, such as "train". It determines the library's split if the locator has no query.
    Raises InputError if the query is not ``?split=...``.
    """
    name, _, query = locator.partition("?")
    key, _, value = query.partition("=")
    if query and (key != "split" or not value):
        raise InputError(f"{name}: ?{query} is invalid. Use ?split=..., for example ?split=train[:90%].")
    return Query(name, value or SPLIT_NAMES[split], bool(query))
