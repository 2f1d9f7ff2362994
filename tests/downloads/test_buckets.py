"""Files and runs in buckets, on servers of S3 and Google Cloud Storage on loopback."""

import gzip

import fsspec
import pytest
from object_stores import BUCKET, gcs_port, gcs_variables, s3_port, s3_variables, variables  # noqa: F401
from tiny_run import tiny_run  # noqa: F401

from transformer_jax.data.sources import open_pairs
from transformer_jax.downloads.files import download_file
from transformer_jax.downloads.runs import local_run
from transformer_jax.errors import InputError

# ruff: noqa: F811
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # Of the upload by gcsfs.
CONTENT = bytes(range(256)) * 40_000
"""More than one request for ranges."""


@pytest.fixture(params=["s3", "gs"])
def bucket(request, tmp_path):
    """Return the file system and the URL of a folder of its own in a bucket."""
    port = request.getfixturevalue({"s3": "s3_port", "gs": "gcs_port"}[request.param])
    with variables({"s3": s3_variables, "gs": gcs_variables}[request.param](port)):
        yield fsspec.filesystem(request.param, use_listings_cache=False), f"{request.param}://{BUCKET}/{tmp_path.name}"


def test_object_is_downloaded_once_and_anew_after_a_change(bucket, new_process):
    files, url = bucket
    files.pipe_file(f"{url}/a.bin", CONTENT)
    first = download_file(f"{url}/a.bin")
    assert first.read_bytes() == CONTENT
    written = first.stat().st_mtime_ns
    new_process()
    assert download_file(f"{url}/a.bin").stat().st_mtime_ns == written
    files.pipe_file(f"{url}/a.bin", CONTENT[::-1])
    new_process()
    assert download_file(f"{url}/a.bin").read_bytes() == CONTENT[::-1]
    assert first.read_bytes() == CONTENT


def test_partial_object_is_resumed(bucket, new_process, downloads):
    files, url = bucket
    files.pipe_file(f"{url}/a.bin", CONTENT)
    copy = download_file(f"{url}/a.bin")
    copy.unlink()
    # What a killed process leaves. Byte 0 shows that this part is not downloaded again.
    (copy.parent / "new.partial").write_bytes(b"\1" + CONTENT[1:5_000_000])
    new_process()
    if url.startswith("gs"):  # The store states a checksum, so the damage is found.
        assert download_file(f"{url}/a.bin").read_bytes() == CONTENT
    else:
        assert download_file(f"{url}/a.bin").read_bytes() == b"\1" + CONTENT[1:]


def test_pairs_are_read_from_a_bucket(bucket):
    files, url = bucket
    files.pipe_file(f"{url}/train.en.gz", gzip.compress(b"Good morning.\nThank you.\n"))
    files.pipe_file(f"{url}/train.de.gz", gzip.compress(b"Guten Morgen.\nVielen Dank.\n"))
    pairs = list(open_pairs(f"{url}/train.{{lang}}.gz", "en", "de", "train"))
    assert [pair.target for pair in pairs] == ["Guten Morgen.", "Vielen Dank."]
    files.pipe_file(f"{url}/x.tsv", b"Good morning.\tGuten Morgen.\nbad\n")
    with pytest.raises(InputError, match=r"x\.tsv:2 has 0 tabs"):
        list(open_pairs(f"{url}/x.tsv", "en", "de", "train"))


def test_run_is_read_from_a_bucket(bucket, tiny_run):
    files, url = bucket
    files.put(str(tiny_run), f"{url}/run", recursive=True)
    copy = local_run(f"{url}/run")
    assert {path.relative_to(copy) for path in copy.rglob("*")} == {
        path.relative_to(tiny_run) for path in tiny_run.rglob("*")
    }


@pytest.mark.parametrize("path", ["none.tsv", "none/none.tsv"])
def test_missing_object_is_one_line(bucket, path):
    with pytest.raises(InputError, match=f"{path}: not found") as error:
        download_file(f"{bucket[1]}/{path}")
    assert "\n" not in str(error.value)


def test_missing_bucket_is_one_line(bucket):
    url = bucket[1].replace(f"//{BUCKET}/", "//no-such-bucket/")
    with pytest.raises(InputError, match=r"no-such-bucket/.*: not found|is not a run"):
        download_file(f"{url}/x.tsv")
    with pytest.raises(InputError):
        local_run(url)
