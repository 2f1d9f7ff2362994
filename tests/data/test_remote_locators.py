"""Locators with a URL in front of any file."""

import bz2
import gzip

import pyarrow
import pyarrow.parquet
import pytest
from faulty_server import faulty_server

from transformer_jax.data.sources import open_pairs
from transformer_jax.downloads.files import download_file
from transformer_jax.errors import InputError

ENGLISH, GERMAN = ["Good morning.", "Thank you."], ["Guten Morgen.", "Vielen Dank."]
TSV = "".join(f"{pair[0]}\t{pair[1]}\n" for pair in zip(ENGLISH, GERMAN, strict=True)).encode()
JSONL = b'{"en": "Good morning.", "de": "Guten Morgen."}\n{"en": "Thank you.", "de": "Vielen Dank."}\n'


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFORMER_JAX_DOWNLOADS", str(tmp_path / "downloads"))
    download_file.cache_clear()
    with faulty_server() as server:
        yield server


def parquet(tmp_path):
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"en": ENGLISH, "de": GERMAN}), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "name", ["x.tsv", "x.tsv.gz", "x.jsonl", "x.jsonl.bz2", "x.parquet", "x.{lang}", "x.{lang}.gz"]
)
def test_every_kind_of_file_is_read(server, tmp_path, name):
    contents = {".tsv": TSV, ".jsonl": JSONL, ".parquet": parquet(tmp_path)}
    compress = {".gz": gzip.compress, ".bz2": bz2.compress}.get(name[name.rindex(".") :], bytes)
    for language, lines in (("en", ENGLISH), ("de", GERMAN)):
        content = next((content for form, content in contents.items() if form in name), "\n".join(lines).encode())
        server.put(f"/{name.replace('{lang}', language)}", compress(content), "tag")
    pairs = open_pairs(f"{server.url('/')}{name}?signature=a.b", "en", "de", "train")
    assert [tuple(pair) for pair in pairs] == list(zip(ENGLISH, GERMAN, strict=True))


def test_message_about_a_line_shows_the_server(server):
    url = server.put("/x.tsv", TSV + b"no tab\n", "tag")
    with pytest.raises(InputError, match=r"http_127\.0\.0\.1_\d+_x\.tsv-\w+/\w+/x\.tsv:3 has 0 tabs"):
        list(open_pairs(url, "en", "de", "train"))


@pytest.mark.parametrize(
    ("locator", "message"),
    [
        (
            "ftp://host/x.tsv",
            "'ftp://host/x.tsv' is not a known kind of URL. Use one of gs://, s3://, https://, http://",
        ),
        ("gcs://bucket/x.tsv", "is not a known kind of URL"),
        ("https://host/x.csv", "'https://host/x.csv' is not a known locator. Convert it"),
        ("https://host/x", "'https://host/x' is not a known locator. Use path/train"),
        ("https://host/x.{lang}.jsonl?a=b", "https://host/x.{lang}.jsonl is JSON lines, but files with one language"),
        ("s3:///x.tsv", "s3:///x.tsv names no bucket. Write s3://BUCKET/PATH"),
    ],
)
def test_unusable_url_is_one_line_without_a_request(locator, message):
    with pytest.raises(InputError) as error:
        open_pairs(locator, "en", "de", "train")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
