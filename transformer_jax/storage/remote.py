"""Object stores and other remote file systems, named by a URL such as ``s3://bucket/path``. All access is by fsspec.

The package of a store is imported only when a URL of its kind is opened.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from transformer_jax.errors import InputError, RunError
from transformer_jax.storage.home import expand_home
from transformer_jax.terminal import one_line

CONNECT_SECONDS = 10
"""Time in which a server must accept a connection."""
SILENCE_SECONDS = 30
"""Time after which a request fails if the server sends nothing. Libraries then retry it a few times."""


class Store(NamedTuple):
    """A kind of store that this package documents.

    package: the Python package that fsspec needs.
    extra: the optional dependency of this package that installs it.
    container: what the first part of the path names.
    log_in: how a user provides credentials.
    """

    package: str
    extra: str
    container: str
    log_in: str


STORES = {
    "gs": Store("gcsfs", "gcs", "bucket", "Run: gcloud auth application-default login"),
    "s3": Store("s3fs", "s3", "bucket", "Run: aws configure. Or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "hf": Store("huggingface_hub", "hub", "repository", "Run: hf auth login. Or set HF_TOKEN"),
}
"""Scheme of a URL -> kind of store."""


class Remote(NamedTuple):
    """A location in a store.

    url: the location as the user wrote it, for messages.
    files: the fsspec file system, without a cache of listings.
    path: the path in that file system, without a slash at the end.
    """

    url: str
    files: Any
    path: str


def is_url(location: str) -> bool:
    """Return whether a location is a URL instead of a path."""
    return "://" in location


def scheme_of(url: str) -> str:
    """Return the scheme of a URL; "file" for a path."""
    return url.partition("://")[0] if is_url(url) else "file"


def open_remote(url: str) -> Remote:
    """Return the location that a URL or the path of a directory names. Nothing is sent.

    Raises InputError if the kind of URL is unknown, if it names no bucket or repository, or if a package is missing.
    """
    import fsspec

    scheme = scheme_of(url)
    store = STORES.get(scheme)
    if scheme not in fsspec.available_protocols():
        known = ", ".join(f"{name}://" for name in STORES)
        raise InputError(f"{url}: {scheme}:// is not a known kind of URL. Use {known} or a directory.")
    path = url.partition("://")[2] if is_url(url) else str(Path(expand_home(url)).absolute())
    if store and not re.match(r"[^/]+/[^/]+" if scheme == "hf" else r"[^/]+", path):
        form = "hf://OWNER/NAME" if scheme == "hf" else f"{scheme}://BUCKET/PATH"
        raise InputError(f"{url} names no {store.container}. Write {form}.")
    if store and find_spec(store.package) is None:
        raise InputError(f'{url} needs {store.package}. Run: pip install "transformer_jax[{store.extra}]"')
    try:
        files = fsspec.filesystem(scheme, use_listings_cache=False, **_timeouts(scheme))
    except ImportError as error:  # Other file systems of fsspec.
        raise InputError(f"{url}: {error}.") from error
    return Remote(url, files, path.rstrip("/") or "/")


def _timeouts(scheme: str) -> dict[str, Any]:
    """Return options that let requests fail if the server does not answer. Large uploads may take longer."""
    if scheme == "s3":
        # s3fs itself repeats a failed request five times.
        retries = {"mode": "standard", "total_max_attempts": 1}
        return {
            "config_kwargs": {
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": SILENCE_SECONDS,
                "retries": retries,
            }
        }
    if scheme == "gs":
        from aiohttp import ClientTimeout

        return {"requests_timeout": ClientTimeout(None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)}
    return {}


@contextmanager
def remote_errors(url: str) -> Iterator[None]:
    """Convert every error of a store in the block to a one-line error, see ``remote_error``."""
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:  # The libraries raise many types.
        raise remote_error(url, error) from error


def remote_error(url: str, error: Exception) -> InputError | RunError:
    """Return an error of a store as one line with its remedy.

    It is an InputError if the user can fix it (credentials, rights, names), otherwise a RunError.
    """
    reason = describe_error(error)
    store = STORES.get(scheme_of(url))
    log_in = f"{store.log_in}." if store else "Check its path and permissions."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{error.filename or url}: {error.strerror}. Free space, and run the same command again.")
    if type(error).__name__ == "RepositoryNotFoundError":
        return InputError(f"{url}: there is no such repository, or it is private. Run: hf repo create. {log_in}")
    if _has_no_credentials(error):
        return InputError(f"{url}: no credentials ({reason}). {log_in}")
    if isinstance(error, PermissionError) or _http_status(error) in (401, 403) or reason.startswith("Forbidden"):
        return InputError(
            f"{url}: access denied ({reason}). Use credentials with the right to read and write. {log_in}"
        )
    if isinstance(error, FileNotFoundError) or _http_status(error) == 404:
        container = store.container if store else "directory"
        return InputError(f"{url}: not found ({reason}). Check the name, or create the {container}.")
    return RunError(f"{url}: {reason}. Check the network and the address, and run the same command again.")


def describe_error(error: BaseException) -> str:
    """Return the message of a library's error as one line without a final period; its type if it has no message."""
    return one_line(str(error).strip() or type(error).__name__, 200).rstrip(".")


def _has_no_credentials(error: Exception) -> bool:
    names = {cause.__name__ for cause in type(error).__mro__}
    return bool(names & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound"})


def _http_status(error: BaseException | None) -> int | None:
    """Return the HTTP status in an error of gcsfs, aiohttp, botocore or huggingface_hub, or in its cause."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):  # botocore.
            response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for status in (getattr(error, "code", None), getattr(error, "status", None), response):
            number = getattr(status, "status_code", status)
            if isinstance(number, int | str) and str(number).isdecimal():
                return int(number)
        error = error.__cause__
    return None
