"""Local copies of remote files. A copy is complete and verified, or absent."""

from __future__ import annotations

import functools
import json
import logging
import os
from contextlib import closing
from pathlib import Path

from transformer_jax.downloads.cache import file_name, log_offline, newest, only_process, short_hash, url_directory
from transformer_jax.downloads.display import DownloadDisplay
from transformer_jax.downloads.streams import TransferError, Version, open_stream, public_url
from transformer_jax.downloads.transfer import (
    DISK_REMEDY,
    PARTIAL_SUFFIX,
    fetch,
    file_digest,
    resume_position,
    retry,
)
from transformer_jax.storage import atomic

RECORD = "download.json"
"""File next to a copy that identifies its content."""


@functools.cache  # All readers in a process use the same version of a file.
def download_file(url: str) -> Path:
    """Return the path of a copy of a remote file. It is downloaded unless the newest version is in the cache.

    If the server is not reachable, the newest copy is used, with a warning.

    Raises InputError if the URL, the file or the credentials are invalid; RunError if the download fails or the cache
    is not writable.
    """
    name, directory = public_url(url), url_directory("files", url)

    def attempt() -> Path:
        version = current_version(url)
        # Without a tag, the server does not show whether the file has changed.
        copy = directory / (short_hash(f"{version.size} {version.tag}") if version.tag else "untagged") / file_name(url)
        if not version.tag or not is_complete(copy):
            download_version(url, version, copy)
        return copy

    def bytes_on_disk() -> int:
        return sum(path.stat().st_size for path in directory.glob(f"*/*{PARTIAL_SUFFIX}"))

    with only_process(directory, name):
        if copy := newest(filter(is_complete, directory.glob(f"*/{file_name(url)}"))):
            try:
                current_version(url)
            except TransferError as error:
                log_offline(name, error, copy)
                return copy
        return retry(name, attempt, bytes_on_disk)


def current_version(url: str) -> Version:
    """Return the present version of a remote file."""
    stream = open_stream(url)  # Not a HEAD request, which signed URLs refuse.
    stream.connection.close()
    return stream.version


def download_version(url: str, version: Version, copy: Path) -> None:
    """Download one version of a file, and record its checksum."""
    if copy.exists() and version.tag:
        logging.warning(f"{copy} has changed since it was downloaded. Downloading it again.")
    new = copy.with_name("new")
    with closing(DownloadDisplay(public_url(url), version.size, resume_position(new, version))) as display:
        fetch(url, version, new, display)
    record = {"url": public_url(url), **version._asdict(), **file_facts(new), "sha256": file_digest(new)}
    with atomic.writing(copy, DISK_REMEDY):
        atomic.write_text(copy.with_name(RECORD), json.dumps(record, indent=2) + "\n")
        os.replace(new, copy)


def is_complete(copy: Path) -> bool:
    """Return whether a copy is what was downloaded. It is read only if its size or time differ from the record."""
    try:
        record = json.loads(copy.with_name(RECORD).read_text(encoding="utf-8"))
        return file_facts(copy).items() <= record.items() or file_digest(copy) == record["sha256"]
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def file_facts(path: Path) -> dict[str, int]:
    """Return facts about a file that change when it is written."""
    status = path.stat()
    return {"length": status.st_size, "mtime_ns": status.st_mtime_ns}
