"""Runs named by a URL: ``hf://OWNER/NAME[@REVISION]``, ``gs://BUCKET/PATH`` or ``s3://BUCKET/PATH``.

The files that translation needs are copied into the cache as a run directory, with the best checkpoint only. They come
from a stranger: names that would leave the directory are refused, and readers check the directory as any other run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from transformer_jax.downloads.cache import file_name, log_offline, newest, only_process, short_hash, url_directory
from transformer_jax.downloads.display import DownloadDisplay
from transformer_jax.downloads.streams import TransferError, Version, object_errors, object_version
from transformer_jax.downloads.transfer import DISK_REMEDY, fetch, retry
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic
from transformer_jax.storage.caches import prepare_hf_caches
from transformer_jax.storage.checksums import CHECKSUMS_FILE, find_damage
from transformer_jax.storage.remote import Remote, open_remote, scheme_of
from transformer_jax.storage.untrusted import MAX_JSON_BYTES

RUN_SCHEMES = ("hf", "gs", "s3")
"""Kinds of URLs that name a run."""
HUB_RUN = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@]+))?")
COMMIT = re.compile("[0-9a-f]{40}")
RUN_FILE = re.compile(r"[\w-][\w.-]*\.(?:json|txt)")
"""Files of a run that are copied, apart from checkpoints."""
CHECKPOINT_FILE = re.compile(r"checkpoints/(?P<step>[1-9]\d{0,17})/(?:[\w-][\w.=+-]*/)*[\w-][\w.=+-]*")
MAX_FILES = 10_000


class Listing(NamedTuple):
    """The files of a remote run that are copied.

    remote: the run. The revision of a repository is a commit.
    step: step of the checkpoint that is copied.
    files: path in the run -> version.
    """

    remote: Remote
    step: int
    files: dict[str, Version]


def local_run(run: str | Path) -> Path:
    """Return the directory of a run: a path unchanged, and for a URL the path of a copy in the cache.

    If the server is not reachable, the newest copy is used, with a warning.

    Raises InputError if the URL is invalid or names no run; RunError if the download fails.
    """
    url = run_url(run)
    return Path(run) if url is None else download_run(url)


def run_url(run: str | Path) -> str | None:
    """Return the URL of a run, or None for a path.

    A URL may arrive as a path, in which the slashes after the colon have become one.
    """
    match = re.match(r"([a-z][a-z0-9+]+):/+", str(run))
    if not match:
        return None
    url = f"{match[1]}://{str(run)[match.end() :].rstrip('/')}"
    if match[1] not in RUN_SCHEMES:
        raise InputError(f"{url} is not a run. Use the directory of a run, hf://OWNER/NAME, gs:// or s3://.")
    if match[1] == "hf" and not HUB_RUN.fullmatch(url):
        raise InputError(f"{url} is not a valid name on the hub. Write hf://OWNER/NAME or hf://OWNER/NAME@REVISION.")
    return url


@functools.cache  # A command reads the same version of a run throughout.
def download_run(url: str) -> Path:
    """Return a copy of a remote run. See ``local_run``."""
    directory = url_directory("runs", url)
    copies = list(directory.glob(f"*/{run_name(url)}"))
    match = HUB_RUN.fullmatch(url)
    if match and COMMIT.fullmatch(match["revision"] or "") and copies:
        return copies[0]  # A commit never changes.
    with only_process(directory, url):
        try:
            listing = list_run(url)
        except TransferError as error:
            if copy := newest(directory.glob(f"*/{run_name(url)}")):
                log_offline(url, error, copy)
                return copy
            listing = retry(url, lambda: list_run(url), lambda: 0)
        version = short_hash(json.dumps(sorted(listing.files.items())))
        copy = directory / version / run_name(url)
        if not copy.exists():
            _copy_run(listing, directory / f"{version}.unfinished" / run_name(url))
            with atomic.writing(copy, DISK_REMEDY):
                atomic.sync(directory / f"{version}.unfinished")
                (directory / f"{version}.unfinished").rename(directory / version)
        return copy


def run_name(url: str) -> str:
    """Return the last part of a URL, which names the run."""
    return file_name(url.partition("@")[0] if scheme_of(url) == "hf" else url)


def list_run(url: str) -> Listing:
    """Return the files of a run that are needed. Raises InputError if it is no run, or unsafe to copy."""
    with object_errors(url):
        remote = _pin_commit(open_remote(url))
        entries = remote.files.find(remote.path, detail=True)
        versions = {name.removeprefix(f"{remote.path}/"): object_version(entry) for name, entry in entries.items()}
        if "config.json" not in versions:
            raise InputError(f"{url} is not a run: config.json is missing. Check the name.")
        step = _best_step(remote, versions)
    files = {
        name: version
        for name, version in sorted(versions.items())
        if RUN_FILE.fullmatch(name)
        or ((match := CHECKPOINT_FILE.fullmatch(name)) and int(match["step"]) == step and ".." not in name.split("/"))
    }
    if len(files) > MAX_FILES:
        raise InputError(f"{url} has more than {MAX_FILES} files, which no run of this package has. Check the name.")
    for name, version in files.items():
        if name.endswith(".json") and (version.size or 0) > MAX_JSON_BYTES:
            raise InputError(f"{name} of {url} is larger than {MAX_JSON_BYTES // 2**20} MiB. Choose another run.")
    return Listing(remote, step, files)


def _pin_commit(remote: Remote) -> Remote:
    """Return the location with the present commit of the revision, if it is in a repository of the hub."""
    match = HUB_RUN.fullmatch(remote.url)
    if not match:
        return remote
    prepare_hf_caches()
    from huggingface_hub import HfApi

    commit = HfApi().model_info(match["name"], revision=match["revision"]).sha
    return remote._replace(path=f"{match['name']}@{commit}")


def _best_step(remote: Remote, versions: Mapping[str, Version]) -> int:
    """Return the step of the best checkpoint, or of the newest complete one if the best is not there.

    A checkpoint is complete if its checksums are there, because they are uploaded last.
    """
    matches = [match for name in versions if (match := CHECKPOINT_FILE.fullmatch(name))]
    steps = {int(match["step"]) for match in matches if match[0] == f"checkpoints/{match['step']}/{CHECKSUMS_FILE}"}
    if not steps:
        raise InputError(f"{remote.url} has no complete checkpoint. Check the name, or finish the upload.")
    name = f"checkpoints/{max(steps)}/progress.json"
    if name in versions and (versions[name].size or 0) <= MAX_JSON_BYTES:
        with contextlib.suppress(ValueError, TypeError, RecursionError, KeyError):
            best = json.loads(remote.files.cat_file(f"{remote.path}/{name}"))["best_step"]
            return best if best in steps else max(steps)
    return max(steps)


def _copy_run(listing: Listing, directory: Path) -> None:
    """Copy the files of a run to a directory that may hold some of them. Raises InputError if they are damaged."""
    scheme = scheme_of(listing.remote.url)

    def bytes_on_disk() -> int:
        return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())

    size = sum(version.size or 0 for version in listing.files.values())
    with closing(DownloadDisplay(listing.remote.url, size, bytes_on_disk())) as display:
        for name, version in listing.files.items():
            path, url = directory / name, f"{scheme}://{listing.remote.path}/{name}"
            if not path.exists():
                retry(url, partial(fetch, url, version, path, display), bytes_on_disk)
    if reason := find_damage(directory / "checkpoints" / str(listing.step)):
        shutil.rmtree(directory)
        raise InputError(f"{listing.remote.url}: checkpoint {listing.step} is damaged ({reason}). Upload it again.")
