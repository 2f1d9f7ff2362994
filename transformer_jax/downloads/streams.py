"""The content of a remote file from any position, by HTTP or from a bucket or repository.

Errors are of two kinds: InputError if the user must change something, such as a name or credentials, and TransferError
if the same request may succeed later.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from transformer_jax.errors import InputError, RunError
from transformer_jax.storage.remote import (
    SILENCE_SECONDS,
    Remote,
    describe_error,
    open_remote,
    remote_error,
    scheme_of,
)

FILE_SCHEMES = ("gs", "s3", "https", "http")
"""Kinds of URLs that name a file."""
CHUNK_BYTES = 2**20
"""Maximum number of bytes read at once by HTTP."""
RANGE_BYTES = 2**23
"""Number of bytes per request to a bucket or repository."""
TRANSIENT_STATUSES = (408, 425, 429)
"""HTTP statuses below 500 after which the same request may succeed."""


class TransferError(RunError):
    """A failed request that may succeed later. The message is the reason."""


class Version(NamedTuple):
    """The version of a remote file.

    size: number of bytes; None if the server does not state it.
    tag: changes with the content: an ETag, a checksum or a time; empty if the server states none.
    checksum: algorithm and hexadecimal digest of the content, such as "md5:...", or empty.
    """

    size: int | None
    tag: str
    checksum: str = ""


class Stream(NamedTuple):
    """An open remote file.

    version: the version that the chunks belong to.
    start: position of the first byte; 0 if the server does not support ranges.
    chunks: the content from there to the end.
    connection: must be closed.
    """

    version: Version
    start: int
    chunks: Iterator[bytes]
    connection: Any


def open_stream(url: str, start: int = 0) -> Stream:
    """Open a remote file at a position."""
    if is_http(url):
        with _http_errors(url):
            return _open_http(url, start)
    with object_errors(url):
        return _open_object(open_remote(url), start)


def is_http(url: str) -> bool:
    """Return whether a URL is read by HTTP, without fsspec."""
    return scheme_of(url) in ("http", "https")


def public_url(url: str) -> str:
    """Return a URL without its query, which may contain credentials. Raises InputError if a web address is invalid."""
    if not is_http(url):
        return url
    try:
        parts = urllib.parse.urlsplit(url)
        is_valid = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:  # The message does not repeat the URL, because it may contain a password.
        raise InputError("a web address of the data is invalid. Write https://HOST/PATH, without a user.")
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def object_version(information: Mapping[str, Any]) -> Version:
    """Return the version of a file from its entry in a listing of fsspec."""
    if lfs := information.get("lfs"):  # A large file of the Hugging Face hub.
        return Version(information["size"], lfs["sha256"], f"sha256:{lfs['sha256']}")
    tag = next((str(information[key]) for key in ("ETag", "etag", "blob_id", "generation") if information.get(key)), "")
    md5 = information.get("md5Hash")  # Of Google Cloud Storage, except for objects composed of others.
    return Version(information["size"], tag.strip('"'), f"md5:{b64decode(md5).hex()}" if md5 else "")


def _open_object(remote: Remote, start: int) -> Stream:
    information = remote.files.info(remote.path)
    if information["type"] != "file":
        raise InputError(f"{remote.url} is a directory. Name a file.")
    version = object_version(information)
    # A read cache would only copy the chunks.
    file = remote.files.open(remote.path, "rb", block_size=RANGE_BYTES, cache_type="none")
    file.seek(start)

    def read() -> bytes:
        chunk = file.read(RANGE_BYTES)
        if not chunk and object_version(remote.files.info(remote.path)) != version:
            raise TransferError("it was changed while it was downloaded")
        return chunk

    return Stream(version, start, _chunks(read, object_errors(remote.url)), file)


@contextmanager
def object_errors(url: str) -> Iterator[None]:
    """Convert the errors of a bucket or repository in the block to InputError or TransferError."""
    try:
        yield
    except (InputError, TransferError, TypeError, AttributeError):
        raise
    except Exception as error:  # The libraries raise many types for failures of a server.
        known = remote_error(url, error)
        raise known if isinstance(known, InputError) else TransferError(describe_error(error)) from error


def _open_http(url: str, start: int) -> Stream:
    headers = {"User-Agent": "transformer_jax", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENCE_SECONDS)
    size = response.headers.get("Content-Length")
    first = 0
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if not match:
            raise TransferError("the server sent an invalid range")
        first, size = int(match[1]), match[2]
    if size is None and response.headers.get("Transfer-Encoding") != "chunked":
        raise InputError(
            f"{public_url(url)}: the server does not state the size, so the download cannot be verified. Download the "
            "file with another program, and use its path."
        )
    tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    version = Version(None if size is None else int(size), tag)
    return Stream(version, first, _chunks(lambda: response.read1(CHUNK_BYTES), _http_errors(url)), response)


@contextmanager
def _http_errors(url: str) -> Iterator[None]:
    name = public_url(url)
    try:
        yield
    except urllib.error.HTTPError as error:
        answer = f"the server answered {error.code} {error.reason}"
        if error.code >= 500 or error.code in TRANSIENT_STATUSES:
            raise TransferError(answer) from error
        needs_login = error.code in (401, 403)
        remedy = "Download the file with another program, and use its path" if needs_login else "Check the URL"
        raise InputError(f"{name}: {answer}. {remedy}.") from error
    except (ValueError, http.client.InvalidURL) as error:
        raise InputError(f"{name} is not a valid URL ({describe_error(error)}). Correct it.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise TransferError(describe_error(reason if isinstance(reason, Exception) else error)) from error


def _chunks(read: Callable[[], bytes], errors: AbstractContextManager[None]) -> Iterator[bytes]:
    """Yield what ``read`` returns until it returns nothing. ``errors`` converts its errors."""
    with errors:
        while chunk := read():
            yield chunk
