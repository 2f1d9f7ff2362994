"""Stores named by URLs, on loopback, and one-line errors for everything that may be wrong with them."""

import subprocess
import sys

import pytest
from object_stores import BUCKET, gcs_port, gcs_variables, s3_port, s3_variables, variables  # noqa: F401

from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import remote as remote_module
from transformer_jax.storage.remote import open_remote, remote_error, remote_errors


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("foo://x", r"foo://x: foo:// is not a known kind of URL\. Use gs://, s3://, hf:// or a directory\."),
        ("s3://", r"s3:// names no bucket\. Write s3://BUCKET/PATH\."),
        ("gs:///path", r"gs:///path names no bucket\. Write gs://BUCKET/PATH\."),
        ("hf://name", r"hf://name names no repository\. Write hf://OWNER/NAME\."),
        ("abfs://container/path", r"abfs://container/path: Install adlfs to access .*\."),
    ],
)
def test_an_invalid_url_is_refused(url, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        open_remote(url)


@pytest.mark.parametrize(("url", "package", "extra"), [("gs://b/p", "gcsfs", "gcs"), ("s3://b/p", "s3fs", "s3")])
def test_a_missing_package_names_the_extra(url, package, extra, monkeypatch):
    monkeypatch.setattr(remote_module, "find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        open_remote(url)
    assert str(caught.value) == f'{url} needs {package}. Run: pip install "transformer_jax[{extra}]"'


def test_a_path_is_a_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_remote("~/run/").path == str(tmp_path / "run")


def write(url):
    with remote_errors(url):
        location = open_remote(url)
        location.files.pipe_file(f"{location.path}/file", b"content")


def test_a_missing_bucket_is_named(s3_port, gcs_port):  # noqa: F811
    with (
        variables(s3_variables(s3_port)),
        pytest.raises(InputError, match=r"^s3://no-bucket/x: not found .* create the"),
    ):
        write("s3://no-bucket/x")
    with (
        variables(gcs_variables(gcs_port)),
        pytest.raises(InputError, match=r"^gs://no-bucket/x: not found .* create "),
    ):
        write("gs://no-bucket/x")


def test_missing_credentials_are_named(s3_port, tmp_path):  # noqa: F811
    empty = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_CONFIG_FILE": str(tmp_path / "none")}
    empty["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "none")
    with (
        variables(s3_variables(s3_port) | empty),
        pytest.raises(InputError, match=r": no credentials .* aws configure"),
    ):
        write(f"s3://{BUCKET}/x")


def test_a_server_that_is_not_there_is_a_failure():
    with variables(s3_variables(1)), pytest.raises(RunError, match=r"Could not connect to .*\. Check the network and"):
        write(f"s3://{BUCKET}/x")


class HttpError(Exception):
    def __init__(self, code):
        super().__init__("line 1\nline 2")
        self.code = code


@pytest.mark.parametrize("error", [PermissionError("no"), HttpError(401), HttpError("403"), OSError("Forbidden: x\ny")])
def test_a_missing_right_is_named(error):
    for url in ("s3://bucket/x", "gs://bucket/x", "hf://owner/x"):
        converted = remote_error(url, error)
        assert isinstance(converted, InputError)
        assert str(converted).startswith(f"{url}: access denied (")
        assert "right to read and write" in str(converted)
        assert "\n" not in str(converted)


def test_other_errors_are_failures_in_one_line(tmp_path):
    for error in (HttpError(500), TimeoutError(), ValueError("a\nb")):
        converted = remote_error("s3://bucket/x", error)
        assert isinstance(converted, RunError)
        assert "\n" not in str(converted)
    full = OSError(28, "No space left on device", str(tmp_path))
    assert str(remote_error("s3://bucket/x", full)).startswith(f"{tmp_path}: No space left on device. Free space")


IMPORTS = """
import sys
import transformer_jax.mirror.mirrored_workdir
print(sorted({"fsspec", "s3fs", "gcsfs", "aiohttp"} & {*sys.modules}))
"""


def test_no_store_is_imported_before_it_is_used():
    program = [sys.executable, "-c", IMPORTS]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout == "[]\n"
