"""The cache of downloads: a directory per URL, and in it a directory per version of its content.

All processes of a machine share the cache. A lock per URL lets one process download while the others wait. The cache is
never pruned. It is safe to delete while no command runs.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import filelock

from transformer_jax.downloads.streams import is_http, public_url
from transformer_jax.downloads.transfer import DISK_REMEDY, VARIABLE
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic
from transformer_jax.storage.caches import cache_directory
from transformer_jax.storage.lock import locked


def url_directory(kind: Literal["files", "runs"], url: str) -> Path:
    """Return the directory of a URL in the cache. Its name shows the URL, because messages contain it."""
    cache = cache_directory("transformer_jax/downloads", VARIABLE)
    if cache is None:
        raise InputError(
            f"{public_url(url)} is stored in a cache, but the home directory is not known. Set {VARIABLE} to a "
            "writable directory."
        )
    return cache / kind / f"{safe_name(public_url(url))}-{short_hash(url)}"


def safe_name(text: str) -> str:
    """Return the end of a text as a file name without unusual characters."""
    return re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII)[-100:].lstrip(".-") or "_"


def file_name(url: str) -> str:
    """Return the name of the file that a URL names. Its suffixes are kept, because they name the format."""
    path = urlsplit(url).path if is_http(url) else url.partition("://")[2]
    return safe_name(unquote(path).rstrip("/").rpartition("/")[2])


def short_hash(text: str) -> str:
    """Return a checksum of a text that is long enough to tell URLs and versions apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def only_process(directory: Path, name: str) -> Iterator[None]:
    """Hold the lock of a URL's directory. Wait, after a message, while another process holds it.

    name: the URL, for messages.
    Raises RunError if the directory cannot be written.
    """
    lock = directory / "lock"
    with atomic.writing(directory, DISK_REMEDY):
        directory.mkdir(parents=True, exist_ok=True)
        lock.touch()
    try:
        with locked(lock, blocking=False):
            yield
    except filelock.Timeout:
        logging.info(f"waiting for another process that downloads {name}")
        with locked(lock):
            yield


def newest(paths: Iterable[Path]) -> Path | None:
    """Return the path that was changed last, or None if there are no paths."""
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)


def log_offline(name: str, reason: Exception, copy: Path) -> None:
    """Warn that an earlier copy is used, because the server is not reachable."""
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(copy.stat().st_mtime))
    logging.warning(f"{name} is not reachable ({reason}). Using the copy downloaded on {date}.")
