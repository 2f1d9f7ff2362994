"""A locator -> sentence pairs, read one after the other.

=================================  ====================================================================================
locator                            where the two sentences of a pair stand
=================================  ====================================================================================
path/train.{lang}[.gz|.xz]         line n of the file of each language; {lang} is replaced by the language code
path/x.tsv[.gz|.xz]                each line: source, one tab, target; no header
path/x.jsonl[.gz|.xz]              each line: {"en": ..., "de": ...} or {"translation": {"en": ..., "de": ...}}
path/x.parquet                     columns named by language code, or a column "translation" that holds them
hf://OWNER/NAME[:CONFIG]           columns, as for Parquet; also a local data set folder, hf:///absolute/path:CONFIG
tfds://NAME/CONFIG                 features, as for Parquet
phrasebook                         the embedded corpus, English and German
=================================  ====================================================================================

``hf://`` and ``tfds://`` take ``?split=``, in the library's own notation: ``?split=train[:90%]``. Without it the split
is named by its role: train, validation, test. Files hold one split, so the role picks nothing there.

Nothing is kept in memory: each iteration reads the text anew, and checks it. A row that is no pair (not UTF-8, blank, a
missing column, a NUL, ...) is refused with its number, or skipped and counted; what is wrong with a file as a whole (it
is missing, damaged, or its lines are not as many as those of the other language) is always refused. Blank sentences of
``hf://`` and ``tfds://`` are passed on, since nobody can delete a line there.

Lines end at "\\n" and nowhere else ("\\r" before it and a byte order mark at the start are dropped). Lines count from
1, rows from 0.
"""

from __future__ import annotations

import difflib
import functools
import gzip
import io
import itertools
import json
import logging
import lzma
import os
import re
import textwrap
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from transformer_jax.errors import InputError

Split = Literal["train", "valid", "test"]

SPLIT_NAMES = {"train": "train", "valid": "validation", "test": "test"}
"""Role -> what Hugging Face and TFDS call the split."""
CHUNK = 1000
"""Rows of a library or of Parquet that are fetched at once."""
MAX_LINE_BYTES = 2**24
"""Bytes of a line that are read at most, so that a file without line ends takes no more memory than others."""


class Pair(NamedTuple):
    """A sentence and its translation, raw text."""

    source: str
    target: str


class Rows(NamedTuple):
    """What a locator holds, not yet checked.

    read: begins at the first row; parse: makes a pair of a row, of which it is told the number, from 0, or raises
    InputError; fingerprint: by which a library tells one content from another, empty if no library keeps the rows.
    """

    read: Callable[[], Iterable[Any]]
    parse: Callable[[int, Any], Pair]
    fingerprint: str = ""


class Pairs:
    """Sentence pairs in order; each iteration reads them anew.

    skipped: how many rows that are no pairs the first whole reading left out; None before it.
    """

    def __init__(self, locator: str, rows: Rows, on_error: Literal["refuse", "skip"]) -> None:
        self.locator = locator
        self.fingerprint = rows.fingerprint
        self.skipped: int | None = None
        self._rows = rows
        self._on_error = on_error

    def __iter__(self) -> Iterator[Pair]:
        number, skipped, example = -1, 0, ""
        for number, row in enumerate(self._rows.read()):
            try:
                pair = self._rows.parse(number, row)
            except InputError as error:
                if self._on_error == "refuse":
                    raise
                skipped, example = skipped + 1, example or str(error)
                continue
            yield pair
        if skipped == number + 1:
            reason = f" (all {skipped} rows are bad; the first: {example})" if skipped else ""
            raise InputError(f"{self.locator} holds no sentence pairs{reason}. Give data with at least one.")
        if skipped and self.skipped is None:
            logging.warning(f"{self.locator}: {skipped} of {number + 1} rows are skipped; the first: {example}")
        self.skipped = skipped


def open_pairs(
    locator: str, source: str, target: str, split: Split, on_error: Literal["refuse", "skip"] = "refuse"
) -> Pairs:
    """The pairs at a locator, for the language codes ``source`` and ``target``.

    Raises InputError for a locator of no known kind, and for a file, a data set or a language that is missing. Reading
    the pairs raises it, with the file and line where there is one, for what is damaged or not aligned, if there is no
    pair at all, and, unless such rows are skipped, for what is blank, not UTF-8 or otherwise no pair.
    """
    scheme, _, name = locator.partition("://")
    if locator == "phrasebook":
        rows = open_phrasebook(source, target, split)
    elif name and scheme in LIBRARIES:
        rows = LIBRARIES[scheme](name, source, target, split)
    elif "{lang}" in locator:
        rows = open_text(locator, source, target)
    else:
        stem = locator.removesuffix(".gz").removesuffix(".xz")
        opener = FILES.get(Path(stem).suffix)
        if opener is None or (opener is open_parquet and stem != locator):
            raise InputError(
                f"{locator!r} is no known kind. Use path/train.{{lang}}[.gz|.xz], .tsv[.gz|.xz], .jsonl[.gz|.xz], "
                ".parquet, hf://OWNER/NAME[:CONFIG][?split=...], tfds://NAME/CONFIG[?split=...] or phrasebook."
            )
        rows = opener(Path(locator), source, target)
    return Pairs(locator, rows, on_error)


def open_phrasebook(source: str, target: str, split: Split) -> Rows:
    """The embedded corpus, in either direction."""
    if {source, target} != {"en", "de"}:
        raise InputError(f"phrasebook is en and de, not {source} to {target}. Use --data.source en --data.target de.")
    order = 1 if source == "en" else -1
    return Rows(lambda: generated_phrasebook()[split], lambda _, row: Pair(*row[::order]))


@functools.cache  # Generating takes seconds, and a run opens all three splits.
def generated_phrasebook() -> Mapping[str, Sequence[tuple[str, str]]]:
    """The embedded corpus by split."""
    from transformer_jax.data.phrasebook import generate

    return generate()


# Files.


def open_text(locator: str, source: str, target: str) -> Rows:
    """One file a language, aligned by line."""
    return open_files(*(Path(locator.replace("{lang}", language)) for language in (source, target)))


def open_files(*paths: Path) -> Rows:
    """Line n of one file, and its translation, line n of the other."""
    for path in paths:
        require(path)

    def read() -> Iterator[tuple[bytes, bytes]]:
        files = [read_lines(path) for path in paths]
        for number, (x, y) in enumerate(itertools.zip_longest(files[0], files[1])):
            if x is None or y is None:
                counts = [
                    number if line is None else number + 1 + sum(1 for _ in rest)
                    for line, rest in zip((x, y), files, strict=True)
                ]
                raise InputError(
                    f"{paths[0]} has {counts[0]} lines but {paths[1]} has {counts[1]}. "
                    "Line n of one must translate line n of the other: add what is missing or delete what is too much."
                )
            yield x, y

    def parse(number: int, lines: tuple[bytes, bytes]) -> Pair:
        places = [f"{path}:{number + 1}" for path in paths]
        texts = [decoded(line, number, place) for line, place in zip(lines, places, strict=True)]
        blank = [not text.strip() for text in texts]
        if any(blank):
            one, other = places if blank[0] else reversed(places)
            problem = f"{one} and {other} are blank" if all(blank) else f"{one} is blank but {other} is not"
            raise InputError(f"{problem}. Delete line {number + 1} from both files.")
        return Pair(*map(checked_text, texts, places))

    return Rows(read, parse)


def open_tsv(path: Path, source: str, target: str) -> Rows:
    """Source and target separated by the line's only tab, whatever the language codes are."""
    require(path)

    def parse(number: int, line: bytes) -> Pair:
        place = f"{path}:{number + 1}"
        text = decoded(line, number, place)
        columns = text.split("\t")
        if len(columns) != 2 and text.strip():
            raise InputError(
                f"{place} has {len(columns) - 1} tabs, not 1. Keep two columns, source and target (say, cut -f1,2)."
            )
        return Pair(
            checked_text(columns[0], f"{place}, the source,"), checked_text(columns[-1], f"{place}, the target,")
        )

    return Rows(lambda: read_lines(path), parse)


def open_jsonl(path: Path, source: str, target: str) -> Rows:
    """One JSON object a line."""
    require(path)

    def parse(number: int, line: bytes) -> Pair:
        place = f"{path}:{number + 1}"
        text = decoded(line, number, place)
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} is not JSON ({one_line(error)}). Correct or delete the line.") from error
        if not isinstance(row, dict):
            raise InputError(f'{place} is JSON but no object. Write {{"{source}": "...", "{target}": "..."}}.')
        return Pair(
            *(checked_text(cell(row, language, place), f"{place}, {language!r},") for language in (source, target))
        )

    return Rows(lambda: read_lines(path), parse)


def open_parquet(path: Path, source: str, target: str) -> Rows:
    """A Parquet file; only the columns in question are read."""
    import pyarrow
    import pyarrow.parquet

    require(path)

    def damaged(error: Exception) -> InputError:
        return InputError(f"{path} is no whole Parquet file ({one_line(error)}). Make or download it again.")

    try:
        file = pyarrow.parquet.ParquetFile(path)
        names, prefix = file.schema_arrow.names, ""
        if "translation" in names and pyarrow.types.is_struct(kind := file.schema_arrow.field("translation").type):
            names, prefix = [field.name for field in kind], "translation."
    except Exception as error:  # the library raises many kinds for damaged files
        raise damaged(error) from error
    for language in (source, target):
        require_column(names, language, str(path))
    columns = [prefix + language for language in (source, target)]

    def read() -> Iterator[tuple[Any, Any]]:
        try:
            for batch in file.iter_batches(CHUNK, columns=columns):
                table = pyarrow.Table.from_batches([batch]).flatten()
                yield from zip(*(values(table.column(name)) for name in columns), strict=True)
        except Exception as error:  # as above
            raise damaged(error) from error

    def values(column: Any) -> list[Any]:
        # Text as bytes, so that a row that is not UTF-8 is known by its number.
        return (column.cast(pyarrow.binary()) if pyarrow.types.is_string(column.type) else column).to_pylist()

    def parse(number: int, texts: tuple[Any, Any]) -> Pair:
        return Pair(
            *(
                checked_text(text, f"{path}, row {number}, {language!r},")
                for text, language in zip(texts, (source, target), strict=True)
            )
        )

    return Rows(read, parse)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain, .gz or .xz file, with their ends; those of over MAX_LINE_BYTES bytes are cut there."""
    number = 0
    try:
        with io.BufferedReader(OPENERS.get(path.suffix, io.FileIO)(path, "rb"), 2**20) as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                yield line
                while len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        problem = f"{path} is damaged after line {number} ({one_line(error)})."
        raise InputError(f"{problem} Make or download it again.") from error


def decoded(line: bytes, number: int, place: str) -> str:
    """The text of line ``number``, from 0, without its end."""
    if len(line) == MAX_LINE_BYTES:
        raise InputError(
            f"{place} has over {MAX_LINE_BYTES // 2**20} MiB, which is no sentence. Split or delete the line."
        )
    try:
        text = line.decode("utf-8" if number else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not UTF-8 ({error.reason} at byte {error.start + 1} of it). Save the file as UTF-8."
        ) from error
    return text.removesuffix("\n").removesuffix("\r")


def require(path: Path) -> None:
    """Raise InputError, with files of a similar name, if there is no such file."""
    if path.is_file():
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder. Give a file in it.")
    if not path.parent.is_dir():
        raise InputError(f"{path} does not exist, nor does its folder. Check the path.")
    near = difflib.get_close_matches(path.name, sorted(other.name for other in path.parent.iterdir()))
    hint = f"Did you mean {' or '.join(near)}?" if near else "Check the path."
    raise InputError(f"{path} does not exist. {hint}")


# Libraries.


def open_hf(name: str, source: str, target: str, split: Split) -> Rows:
    """A data set of the Hugging Face hub or a local data set folder, memory-mapped."""
    import datasets

    name, part = split_of(name, split)
    name, _, config = name.partition(":")
    place = f"hf://{name}" + (f":{config}" if config else "")
    try:
        rows = datasets.load_dataset(name, config or None, split=part)
    except ConnectionError as error:
        raise InputError(
            f"{place} cannot be reached ({one_line(error)}). Where there is a network, run: hf download "
            f"--repo-type dataset {name} --local-dir FOLDER; copy FOLDER here and use hf:///path/to/FOLDER."
        ) from error
    except Exception as error:  # the library raises many kinds for names, configs, splits and files
        raise InputError(f"{place}?split={part}: {one_line(error)}. Check name, config and split.") from error
    return from_rows(rows, source, target, f"{place}?split={part}", rows._fingerprint)


def open_tfds(name: str, source: str, target: str, split: Split) -> Rows:
    """A data set of TensorFlow Datasets as array_record files; prepares it first if need be. TensorFlow is not used."""
    try:
        import array_record  # noqa: F401
        import importlib_resources  # noqa: F401
        import tensorflow_datasets
        import tensorflow_datasets.translate  # registers the data sets for translation
    except ImportError as error:
        raise InputError(
            f"tfds://{name} needs {error.name}. Run: pip install tensorflow-datasets array_record importlib_resources"
        ) from error
    name, part = split_of(name, split)
    place = f"tfds://{name}?split={part}"
    try:
        rows = tensorflow_datasets.data_source(
            name,
            split=part,
            data_dir=os.environ.get("TFDS_DATA_DIR"),
            builder_kwargs={"file_format": "array_record"},
        )
    except OSError as error:
        raise InputError(
            f"{place} cannot be downloaded or read ({one_line(error)}). Prepare it on a machine with a network, copy "
            "its TFDS_DATA_DIR (else ~/tensorflow_datasets) here and set TFDS_DATA_DIR to the copy."
        ) from error
    except Exception as error:  # the library raises many kinds for names, configs, splits and files
        reason = one_line(error).partition(" Available datasets:")[0]  # All there are: hundreds.
        raise InputError(
            f"{place}: {reason.rstrip('.')}. Check name, config, split and format (array_record)."
        ) from error
    # The folder is named by data set, config and version.
    return from_rows(rows, source, target, place, f"{rows.dataset_info.data_dir}?split={part}")


def from_rows(data: Any, source: str, target: str, place: str, fingerprint: str) -> Rows:
    """Rows of Hugging Face or TFDS, left on disk."""

    def read() -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(data), CHUNK):
            try:
                rows = data.__getitems__(list(range(start, min(start + CHUNK, len(data)))))
            except Exception as error:  # the libraries raise many kinds for damaged files
                raise InputError(f"{place} cannot be read ({one_line(error)}). Prepare the data set again.") from error
            yield from rows

    def parse(number: int, row: Mapping[str, Any]) -> Pair:
        texts = ((cell(row, language, f"{place}, row {number}"), language) for language in (source, target))
        return Pair(*(checked_text(text, f"{place}, row {number}, {name!r},", blank="passed") for text, name in texts))

    for row in itertools.islice(read(), 1):
        for language in (source, target):
            cell(row, language, place)  # Wrong languages are found now, not when training has begun.
    return Rows(read, parse, fingerprint)


def split_of(name: str, split: Split) -> tuple[str, str]:
    """Name without its query, and the library's name of the split."""
    name, _, query = name.partition("?")
    key, _, value = query.partition("=")
    if query and (key != "split" or not value):
        raise InputError(f"?{query} is not understood. The only option is ?split=..., for example ?split=train[:90%].")
    return name, value or SPLIT_NAMES[split]


# Values.


def cell(row: Mapping[str, Any], language: str, place: str) -> Any:
    """The value of a language, from ``translation`` if the row has one."""
    nested = row.get("translation")
    values = nested if isinstance(nested, Mapping) else row
    require_column(values, language, place)
    return values[language]


def require_column(names: Iterable[str], language: str, place: str) -> None:
    """Raise InputError, with the names there are, if the language is not one of them."""
    if language not in names:
        raise InputError(
            f"{place} has no {language!r}, only {', '.join(map(repr, names)) or 'nothing'}. "
            "Give --data.source and --data.target by the names that are there."
        )


def checked_text(text: Any, place: str, blank: Literal["refused", "passed"] = "refused") -> str:
    """The text itself, decoded if need be.

    Raises InputError if it is no text, not UTF-8 or blank, or if it holds a NUL or half a surrogate pair (JSON can
    write one).
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise InputError(f"{place} is not UTF-8 ({error.reason}). Correct or delete it.") from error
    if not isinstance(text, str):
        value = "null" if text is None else repr(text)[:40]
        raise InputError(f"{place} is {value}, not text. Correct or delete it.")
    if blank == "refused" and not text.strip():
        raise InputError(f"{place} is blank. Delete the pair or fill it in.")
    if "\0" in text:
        raise InputError(f"{place} holds a NUL, as text in another encoding does. Save it as UTF-8 or delete it.")
    if SURROGATE.search(text):
        raise InputError(f"{place} holds half a surrogate pair, which is no character. Correct or delete it.")
    return text


SURROGATE = re.compile("[\ud800-\udfff]")


def one_line(error: BaseException) -> str:
    """An error's message in one line of bounded length, without full stop at the end."""
    return (textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__).rstrip(".")


OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
FILES: dict[str, Callable[[Path, str, str], Rows]] = {".tsv": open_tsv, ".jsonl": open_jsonl, ".parquet": open_parquet}
LIBRARIES: dict[str, Callable[[str, str, str, Split], Rows]] = {"hf": open_hf, "tfds": open_tfds}
