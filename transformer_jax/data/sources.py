"""Sentence pairs from a locator, read one at a time.

=================================  ====================================================================================
locator                            content
=================================  ====================================================================================
path/train.{lang}                  one file per language, aligned by line; {lang} is replaced with the language code
path/x.tsv                         per line: source, one tab, target; no header
path/x.jsonl                       per line: {"en": ..., "de": ...} or {"translation": {"en": ..., "de": ...}}
path/x.parquet                     columns named by language code, or a column "translation" that contains them
hf://OWNER/NAME[:CONFIG]           columns as in Parquet; also a local data set directory: hf:///absolute/path:CONFIG
path/directory                     a data set that Dataset.save_to_disk or DatasetDict.save_to_disk has written
tfds://NAME/CONFIG                 features named like the columns of Parquet
phrasebook                         the built-in phrasebook, English and German
phrasebook:two                     lines of two phrasebook sentences, the same lines for every role of the data
gs://, s3://, https://, http://    any of the files above, downloaded once (``downloads.files``)
=================================  ====================================================================================

Text files may be compressed with gzip, bzip2, xz, LZMA or Zstandard, whatever their names are. Paths may start with
``~``.

``hf://``, ``tfds://`` and directories accept ``?split=`` in the library's own notation, such as
``?split=train[:90%]``. The default split depends on the role of the data: train, validation or test. Files are always
read completely.

Each iteration reads and validates the text again, so no text is kept in memory. An invalid record (not UTF-8, blank,
without one of the languages, ...) raises an error, or is skipped and counted. A missing or damaged file, or one with
more or fewer lines than the other language's file, always raises an error. Blank sentences from ``hf://``, ``tfds://``
and directories are allowed, because users cannot edit those data sets.

Error messages count lines from 1 and rows from 0.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from transformer_jax.data.forms import conversion_remedy, form_suffix, require_plain_text_name
from transformer_jax.data.identity import FileFacts, Identity, PairsChecksum
from transformer_jax.data.languages import find_language
from transformer_jax.data.library_datasets import is_saved_dataset, open_hf, open_parquet, open_tfds
from transformer_jax.data.records import Pair, Records, Split
from transformer_jax.data.text_files import (
    open_aligned_files,
    open_jsonl,
    open_language_files,
    open_tsv,
    read_lines,
    require_text_file,
)
from transformer_jax.errors import InputError
from transformer_jax.storage.home import expand_home
from transformer_jax.storage.remote import scheme_of

__all__ = ["Pair", "Pairs", "open_pairs", "read_lines"]

FILE_READERS: dict[str, Callable[[Path, str, str], Records]] = {
    ".tsv": open_tsv,
    ".jsonl": open_jsonl,
    ".parquet": open_parquet,
}
LIBRARY_READERS: dict[str, Callable[[str, str, str, Split], Records]] = {"hf": open_hf, "tfds": open_tfds}


class Pairs:
    """Sentence pairs in order; each iteration reads them again.

    fingerprint: see ``Records``.
    files: facts about the files when they were opened, see ``Records``.
    skipped: number of invalid records that the first complete iteration skipped; None until it ends.
    identity: identity of the pairs without the skipped ones; None until the first complete iteration ends.
    """

    def __init__(self, locator: str, records: Records, on_error: Literal["refuse", "skip"]) -> None:
        self.locator = locator
        self.fingerprint = records.fingerprint
        self.files = [FileFacts.of(path) for path in records.files]
        self.skipped: int | None = None
        self.identity: Identity | None = None
        self._records = records
        self._on_error = on_error

    def __iter__(self) -> Iterator[Pair]:
        count, skipped, first_error = 0, 0, ""
        checksum = None if self.identity else PairsChecksum()
        for index, record in enumerate(self._records.read()):
            count = index + 1
            try:
                pair = self._records.parse(index, record)
            except InputError as error:
                if self._on_error == "refuse":
                    raise
                skipped, first_error = skipped + 1, first_error or str(error)
                continue
            if checksum:
                checksum.add(pair)
            yield pair
        if skipped == count:
            invalid = f"all rows are invalid ({skipped} in total). First error: {first_error}"
            reason = invalid if skipped else "it is empty. Add at least one pair."
            raise InputError(f"{self.locator} contains no sentence pairs: {reason}")
        if skipped and self.skipped is None:
            logging.warning(f"{self.locator}: skipped {skipped} of {count} rows; the first: {first_error}")
        self.skipped = skipped
        self.identity = checksum.identity() if checksum else self.identity

    @property
    def is_generated(self) -> bool:
        """Whether this package generates the pairs, as for the phrasebook, instead of reading them."""
        return not self.files and not self.fingerprint

    def require_unchanged(self) -> None:
        """Raise InputError if a file has changed since it was opened."""
        for facts in self.files:
            if not facts.still_hold():
                raise InputError(f"{facts.path} was changed while it was read. Run the same command again.")


def open_pairs(
    locator: str, source: str, target: str, split: Split, on_error: Literal["refuse", "skip"] = "refuse"
) -> Pairs:
    """Open the sentence pairs at a locator.

    source, target: language codes.
    split: role of the data, which selects the split of a library's data set by default.
    on_error: "refuse" raises InputError at the first invalid record, "skip" skips and counts invalid records.

    Raises InputError if the locator is unknown, or if the file, the data set or a language is missing. Iterating over
    the pairs raises InputError, with file and line where possible, if a file is damaged, if the files of the two
    languages differ in length, or if all records are skipped.
    """
    locator = expand_home(locator)
    scheme, _, name = locator.partition("://")
    if locator.partition(":")[0] == "phrasebook":
        records = open_phrasebook(locator, source, target, split)
    elif name and scheme in LIBRARY_READERS:
        records = LIBRARY_READERS[scheme](name, source, target, split)
    elif name:
        records = open_remote_files(locator, source, target)
    elif "{lang}" in locator:
        require_plain_text_name(locator, source, target)
        records = open_language_files(locator, source, target)
    elif is_saved_dataset(locator.partition("?")[0]):
        records = open_hf(locator, source, target, split)
    elif open_file := FILE_READERS.get(form_suffix(locator)):
        records = open_file(Path(locator), source, target)
    else:
        raise unknown_locator(locator)
    return Pairs(locator, records, on_error)


def open_remote_files(url: str, source: str, target: str) -> Records:
    """Open the file, or the file of each language, at a URL. What is not in the cache is downloaded."""
    from transformer_jax.downloads.cache import file_name
    from transformer_jax.downloads.files import download_file
    from transformer_jax.downloads.streams import FILE_SCHEMES, public_url

    if scheme_of(url) not in FILE_SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in (*FILE_SCHEMES, *LIBRARY_READERS))
        raise InputError(f"{url!r} is not a known kind of URL. Use one of {known}.")
    if "{lang}" in url:
        require_plain_text_name(public_url(url), source, target)
        return open_aligned_files(*(download_file(url.replace("{lang}", language)) for language in (source, target)))
    if open_file := FILE_READERS.get(form_suffix(file_name(url))):
        return open_file(download_file(url), source, target)
    raise unknown_locator(public_url(url))


def unknown_locator(locator: str) -> InputError:
    """Return the error for a locator that selects no reader. Raises InputError for a file in a known binary format."""
    path = Path(locator)
    if locator and path.is_dir():
        return InputError(
            f"{locator} is a directory without a saved data set. For one file per language, use {path}/NAME.{{lang}}. "
            f"For a data set as on the Hugging Face hub, use hf://{path.absolute()}."
        )
    if path.is_file():
        require_text_file(path)
    return InputError(
        f"{locator!r} is not a known locator. {conversion_remedy(locator)}Use path/train.{{lang}}, a .tsv, .jsonl or "
        ".parquet file, gs://, s3:// or https:// in front of one, hf://OWNER/NAME[:CONFIG][?split=...], "
        "tfds://NAME/CONFIG[?split=...], phrasebook or phrasebook:two."
    )


def open_phrasebook(locator: str, source: str, target: str, split: Split) -> Records:
    """Open the built-in phrasebook or its lines of two sentences, English to German or German to English."""
    if locator not in ("phrasebook", "phrasebook:two"):
        raise InputError(f"{locator!r} is not a part of the phrasebook. Use phrasebook or phrasebook:two.")
    codes = [find_language(language).code for language in (source, target)]
    if sorted(codes) != ["de", "en"]:
        raise InputError(
            f"the phrasebook contains only en and de, but the run translates {source} to {target}. "
            "Set --data.source en --data.target de."
        )
    order = 1 if codes == ["en", "de"] else -1

    def read() -> Sequence[tuple[str, str]]:
        return phrasebook_splits()[split] if locator == "phrasebook" else phrasebook_two_sentences()

    return Records(read, lambda _, pair: Pair(*pair[::order]))


@functools.cache  # Generation takes seconds, and a run opens all three splits.
def phrasebook_splits() -> Mapping[str, Sequence[tuple[str, str]]]:
    """Return the built-in phrasebook as a dict from split name to sentence pairs."""
    from transformer_jax.data.phrasebook import generate

    return generate()


@functools.cache
def phrasebook_two_sentences() -> Sequence[tuple[str, str]]:
    """Return the lines of two sentences of the built-in phrasebook."""
    from transformer_jax.data.phrasebook import generate_two_sentences

    return generate_two_sentences(phrasebook_splits())
