"""A locator -> sentence pairs by number.

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

Files are read whole and checked: every sentence is UTF-8 text and not blank. Lines end at "\\n" and nowhere else ("\\r"
before it and a byte order mark at the start are dropped). ``hf://`` and ``tfds://`` stay on disk; their pairs are
checked when read, and blank ones are passed on, since nobody can delete a line there. Lines count from 1, rows from 0.
"""

from __future__ import annotations

import difflib
import functools
import gzip
import json
import lzma
import os
import re
import textwrap
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

from transformer_jax.errors import InputError

Split = Literal["train", "valid", "test"]

SPLIT_NAMES = {"train": "train", "valid": "validation", "test": "test"}
"""Role -> what Hugging Face and TFDS call the split."""
CHUNK = 1000
"""Rows fetched at once when a data set is read from end to end."""


class Pair(NamedTuple):
    """A sentence and its translation, raw text."""

    source: str
    target: str


class Pairs(Sequence):
    """Pairs by number, read when they are asked for. A slice is a list of pairs."""

    def __init__(self, length: int, fetch: Callable[[range], list[Pair]], fingerprint: str = "") -> None:
        """``fetch`` returns the pairs of a range of numbers below ``length``, in its order.

        fingerprint: by which a library tells one content from another; empty if no library keeps the pairs.
        """
        self._numbers = range(length)
        self._fetch = fetch
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return self._fetch(self._numbers[index])
        number = self._numbers[index]
        return self._fetch(range(number, number + 1))[0]

    def __iter__(self) -> Iterator[Pair]:
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]


def open_pairs(locator: str, source: str, target: str, split: Split) -> Pairs:
    """The pairs at a locator, for the language codes ``source`` and ``target``.

    Raises InputError, naming the file and line where there is one, for a locator of no known kind and for anything that
    is missing, damaged, blank, not UTF-8 or not aligned. Reading a pair of ``hf://`` or ``tfds://`` raises it too.
    """
    scheme, _, name = locator.partition("://")
    if locator == "phrasebook":
        pairs = open_phrasebook(source, target, split)
    elif name and scheme in LIBRARIES:
        pairs = LIBRARIES[scheme](name, source, target, split)
    elif "{lang}" in locator:
        pairs = open_text(locator, source, target)
    else:
        stem = locator.removesuffix(".gz").removesuffix(".xz")
        opener = FILES.get(Path(stem).suffix)
        if opener is None or (opener is open_parquet and stem != locator):
            raise InputError(
                f"{locator!r} is no known kind. Use path/train.{{lang}}[.gz|.xz], .tsv[.gz|.xz], .jsonl[.gz|.xz], "
                ".parquet, hf://OWNER/NAME[:CONFIG][?split=...], tfds://NAME/CONFIG[?split=...] or phrasebook."
            )
        pairs = opener(Path(locator), source, target)
    if not pairs:
        raise InputError(f"{locator} holds no sentence pairs. Give data with at least one.")
    return pairs


def from_columns(sources: Iterable[str], targets: Iterable[str]) -> Pairs:
    """Two lists of one length."""
    # Python's garbage collector looks through a list of millions of strings again and again, but not through a tuple.
    sources, targets = tuple(sources), tuple(targets)
    return Pairs(len(sources), lambda numbers: [Pair(sources[number], targets[number]) for number in numbers])


def open_phrasebook(source: str, target: str, split: Split) -> Pairs:
    """The embedded corpus, in either direction."""
    if {source, target} != {"en", "de"}:
        raise InputError(f"phrasebook is en and de, not {source} to {target}. Use --data.source en --data.target de.")
    english, german = (list(side) for side in zip(*generated_phrasebook()[split], strict=True))
    return from_columns(english, german) if source == "en" else from_columns(german, english)


@functools.cache  # Generating takes seconds, and a run opens all three splits.
def generated_phrasebook() -> Mapping[str, Sequence[tuple[str, str]]]:
    """The embedded corpus by split."""
    from transformer_jax.data.phrasebook import generate

    return generate()


# Files.


def open_text(locator: str, source: str, target: str) -> Pairs:
    """One file a language, aligned by line."""
    paths = [Path(locator.replace("{lang}", language)) for language in (source, target)]
    sources, targets = (read_lines(path) for path in paths)
    if len(sources) != len(targets):
        raise InputError(
            f"{paths[0]} has {len(sources)} lines but {paths[1]} has {len(targets)}. "
            "Line n of one must translate line n of the other: add what is missing or delete what is too much."
        )
    for number, sides in enumerate(zip(sources, targets, strict=True), start=1):
        blank = [not text.strip() for text in sides]
        if any(blank):
            places = [f"{path}:{number}" for path in paths]
            one, other = places if blank[0] else reversed(places)
            problem = f"{one} and {other} are blank" if all(blank) else f"{one} is blank but {other} is not"
            raise InputError(f"{problem}. Delete line {number} from both files.")
    return from_columns(sources, targets)


def open_tsv(path: Path, source: str, target: str) -> Pairs:
    """Source and target separated by the line's only tab, whatever the language codes are."""
    sources: list[str] = []
    targets: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        place = f"{path}:{number}"
        columns = line.split("\t")
        if len(columns) != 2 and line.strip():
            raise InputError(
                f"{place} has {len(columns) - 1} tabs, not 1. Keep two columns, source and target (say, cut -f1,2)."
            )
        sources.append(checked_text(columns[0], f"{place}, the source,"))
        targets.append(checked_text(columns[-1], f"{place}, the target,"))
    return from_columns(sources, targets)


def open_jsonl(path: Path, source: str, target: str) -> Pairs:
    """One JSON object a line."""
    sources: list[str] = []
    targets: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} is not JSON ({error}). Correct or delete the line.") from error
        if not isinstance(row, dict):
            raise InputError(f'{place} is JSON but no object. Write {{"{source}": "...", "{target}": "..."}}.')
        for texts, language in ((sources, source), (targets, target)):
            texts.append(checked_text(cell(row, language, place), f"{place}, {language!r},"))
    return from_columns(sources, targets)


def open_parquet(path: Path, source: str, target: str) -> Pairs:
    """A Parquet file; only the columns in question are read."""
    import pyarrow
    import pyarrow.parquet

    require(path)
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names, prefix = file.schema_arrow.names, ""
        if "translation" in names and pyarrow.types.is_struct(kind := file.schema_arrow.field("translation").type):
            names, prefix = [field.name for field in kind], "translation."
        for language in (source, target):
            require_column(names, language, str(path))
        table = file.read(columns=[prefix + language for language in (source, target)]).flatten()
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} is no whole Parquet file ({one_line(error)}). Make or download it again.") from error
    columns = []
    for language in (source, target):
        texts = table.column(prefix + language).to_pylist()
        columns.append([checked_text(text, f"{path}, row {n}, {language!r},") for n, text in enumerate(texts)])
    return from_columns(*columns)


def read_lines(path: Path) -> list[str]:
    """The lines of a plain, .gz or .xz file, without their ends; all at once, so that its checksum counts."""
    require(path)
    lines: list[str] = []
    number = 0
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                lines.append(text.removesuffix("\n").removesuffix("\r"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}:{number} is not UTF-8 ({error.reason} at byte {error.start + 1} of it). Save the file as UTF-8."
        ) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        problem = f"{path} is damaged after line {number} ({one_line(error)})."
        raise InputError(f"{problem} Make or download it again.") from error
    return lines


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


def open_hf(name: str, source: str, target: str, split: Split) -> Pairs:
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


def open_tfds(name: str, source: str, target: str, split: Split) -> Pairs:
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
        raise InputError(f"{place}: {one_line(error)}. Check name, config, split and format (array_record).") from error
    # The folder is named by data set, config and version.
    return from_rows(rows, source, target, place, f"{rows.dataset_info.data_dir}?split={part}")


def from_rows(rows: Any, source: str, target: str, place: str, fingerprint: str) -> Pairs:
    """Rows of Hugging Face or TFDS, left on disk."""

    def fetch(numbers: Iterable[int]) -> list[Pair]:
        numbers = list(numbers)
        try:
            fetched = rows.__getitems__(numbers)
        except Exception as error:  # the libraries raise many kinds for damaged files
            raise InputError(f"{place} cannot be read ({one_line(error)}). Prepare the data set again.") from error
        return [pair(row, number) for number, row in zip(numbers, fetched, strict=True)]

    def pair(row: Mapping[str, Any], number: int) -> Pair:
        return Pair(*(text(row, language, f"{place}, row {number}") for language in (source, target)))

    def text(row: Mapping[str, Any], language: str, place: str) -> str:
        value = cell(row, language, place)
        try:
            value = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError as error:
            raise InputError(f"{place}, {language!r}, is not UTF-8 ({error.reason}). Use another data set.") from error
        return checked_text(value, f"{place}, {language!r},", blank="passed")

    pairs = Pairs(len(rows), fetch, fingerprint)
    if pairs:
        pairs[0]  # Wrong languages are found now, not when training has begun.
    return pairs


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
    """The text itself. Raises InputError if it is no text, blank or half a surrogate pair (JSON can write one)."""
    if not isinstance(text, str):
        value = "null" if text is None else repr(text)[:40]
        raise InputError(f"{place} is {value}, not text. Correct or delete it.")
    if blank == "refused" and not text.strip():
        raise InputError(f"{place} is blank. Delete the pair or fill it in.")
    if SURROGATE.search(text):
        raise InputError(f"{place} holds half a surrogate pair, which is no character. Correct or delete it.")
    return text


SURROGATE = re.compile("[\ud800-\udfff]")


def one_line(error: BaseException) -> str:
    """An error's message in one line of bounded length, without full stop at the end."""
    return (textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__).rstrip(".")


OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
FILES: dict[str, Callable[[Path, str, str], Pairs]] = {".tsv": open_tsv, ".jsonl": open_jsonl, ".parquet": open_parquet}
LIBRARIES: dict[str, Callable[[str, str, str, Split], Pairs]] = {"hf": open_hf, "tfds": open_tfds}
