"""Compressed files are known by their first bytes, read completely, and refused if they are damaged or not text."""

import io
import re
import shutil
import subprocess
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parallel_text import COMPRESS, refusal

from transformer_jax.data.compression import file_of_chunks
from transformer_jax.data.sources import open_pairs
from transformer_jax.data.text_files import read_stream_lines
from transformer_jax.errors import InputError

COMPRESSED = [suffix for suffix in COMPRESS if suffix]
ROWS = b"".join(b"%d\t%d\n" % (n, n * n) for n in range(97))


def read(path):
    return list(open_pairs(str(path), "en", "de", "train"))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_content_decides_whatever_the_name(tmp_path, suffix):
    for name in ("x.tsv", "x.tsv.gz", "x.TSV.xz", "x.tsv.zip"):
        (tmp_path / name).write_bytes(COMPRESS[suffix](b"a\tb\n"))
        assert read(tmp_path / name) == [("a", "b")]


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_all_parts_and_padding_of_a_file_are_read(tmp_path, suffix):
    part = COMPRESS[suffix]
    (tmp_path / "x.tsv").write_bytes(part(b"a\tb\nc") + part(b"\td\n") + bytes(8) + part(b"") + bytes(8))
    assert read(tmp_path / "x.tsv") == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("suffix", COMPRESSED)
@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage", "damaged part"])
def test_damaged_file_is_refused(tmp_path, suffix, damage):
    content = COMPRESS[suffix](ROWS)
    if damage == "flipped" and suffix == ".lzma":
        pytest.skip("this format has no checksum")
    middle = len(content) // 2
    (tmp_path / "x.tsv").write_bytes(
        {
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :],
            "garbage": content + b"garbage",
            "damaged part": content + b"XY" + content[2:],
        }[damage]
    )
    assert f"{tmp_path}/x.tsv is damaged after line " in refusal(tmp_path / "x.tsv")


def test_zstandard_file_of_parallel_compression_is_read(tmp_path):
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0size"  # pzstd writes one before each part.
    (tmp_path / "x.tsv").write_bytes(skippable + COMPRESS[".zst"](b"a\tb\n"))
    assert read(tmp_path / "x.tsv") == [("a", "b")]


@pytest.mark.parametrize("inner", COMPRESSED)
def test_file_that_is_compressed_twice_is_refused(tmp_path, inner):
    path = tmp_path / "my x.tsv"
    path.write_bytes(COMPRESS[".bz2"](COMPRESS[inner](b"a\tb\n")))
    message = refusal(path)
    assert (
        f" within bzip2 data. Remove the outer compression (bzip2 -dc '{path}' > NEW), and use its output." in message
    )


def archive(kind):
    """Return the bytes of a zip or tar archive, or a Word document."""
    file = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("x"))
    else:
        with zipfile.ZipFile(file, "w") as zipped:
            zipped.writestr("[Content_Types].xml" if kind == "docx" else "x", "a\tb\n")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x04\x22\x4d\x18rest", "{path} is LZ4 data, not text. Convert it (lz4 -dc {path} > NEW)."),
        (b"\x1f\x9d\x90rest", "{path} is compress data, not text. Convert it (gzip -dc {path} > NEW)."),
        (b"7z\xbc\xaf\x27\x1crest", "is a 7-Zip archive, not text. Convert it (7z e -so {path} > NEW)."),
        (b"Rar!\x1a\x07rest", "is a RAR archive, not text. Convert it (unrar p -inul {path} > NEW)."),
        (archive("zip"), "is a zip archive, not text. Convert it (unzip -p {path} > NEW)."),
        (archive("tar"), "is a tar archive, not text. Convert it (tar -xOf {path} > NEW)."),
        (archive("docx"), "is an Office document, not text. Convert it (soffice --convert-to txt {path})."),
        (COMPRESS[".gz"](archive("tar")), "is a tar archive within gzip data. Remove the outer compression"),
        (b"PAR1\x15rest", "is a Parquet file, not text. Convert it (mv {path} NEW.parquet)."),
        (b"%PDF-1.4rest", "is a PDF document, not text. Convert it (pdftotext {path} NEW)."),
    ],
)
def test_other_formats_are_refused_with_a_command(tmp_path, content, message):
    (tmp_path / "x.de").write_bytes(b"b\n")
    for name in ("x.tsv", "x.jsonl.gz", "x.{lang}", "x.unknown"):
        path = tmp_path / name.replace("{lang}", "en")
        path.write_bytes(content)
        assert message.format(path=path) in refusal(tmp_path / name)


def test_brotli_is_known_by_its_suffix(tmp_path):
    path = tmp_path / "x.tsv.br"
    path.write_bytes(b"\x0b\x01\x80a\tb\n\x03")  # Brotli has no signature.
    assert f"{path} is Brotli data, not text. Convert it (brotli -dc {path} > NEW)." in refusal(path)
    path.write_bytes(b"a\tb\n")
    assert read(path) == [("a", "b")]


BRETON = "Pelec’h emañ ar c’harr? Ne oar den.\n"


@pytest.mark.parametrize("code", ["br", "bgz", "rar", "tar", "tsv", "csv", "doc", "odt", "xls", "xml", "sgm", "srt"])
def test_language_codes_are_not_taken_for_a_format(tmp_path, code):
    for cut in range(3):  # The first bytes of a file may end within a character.
        text = "a" * cut + BRETON.replace("\n", "") * 97
        for language in ("en", code):
            (tmp_path / f"x.{language}").write_text(f"{text}\n", encoding="utf-8")
        assert list(open_pairs(f"{tmp_path}/x.{{lang}}", "en", code, "train")) == [(text, text)]


@pytest.mark.parametrize("encoding", ["WINDOWS-1252", "UTF-16"])
def test_breton_in_another_encoding_is_not_brotli(tmp_path, encoding):
    (tmp_path / "x.en").write_text("a\n")
    (tmp_path / "x.br").write_bytes(BRETON.encode(encoding))
    assert f"iconv -f {encoding} -t UTF-8" in refusal(f"{tmp_path}/x.{{lang}}", "en", "br")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x9d\x90rest", "compress data, not text. Convert it (gzip -dc)."),
        (archive("zip"), "a zip archive, not text. Convert it (save it to FILE first, then: unzip -p FILE > NEW)."),
        (archive("tar"), "a tar archive, not text. Convert it (save it to FILE first, then: tar -xOf FILE > NEW)."),
        (b"%PDF-1.4rest", "a PDF document, not text. Convert it (save it to FILE first, then: pdftotext FILE NEW)."),
        (b"PAR1\x15rest", "a Parquet file, not text. Convert it (save it to FILE first, then: mv FILE NEW.parquet)."),
    ],
)
def test_command_for_a_pipe_reads_it_or_asks_to_save_it(content, message):
    with pytest.raises(InputError, match=re.escape(f"standard input is {message}")):
        list(read_stream_lines(io.BytesIO(content)))


def test_compressed_parquet_is_refused(tmp_path):
    path = tmp_path / "x.parquet.gz"
    path.write_bytes(COMPRESS[".gz"](b"PAR1"))
    message = f"{path} is gzip data, not Parquet. Convert it (gzip -dc {path} > NEW), and rename NEW to NEW.parquet."
    assert refusal(path) == message


@pytest.mark.skipif(not shutil.which("zstd"), reason="needs zstd")
def test_large_windows_are_read_and_the_suggested_command_works(tmp_path):
    subprocess.run(["zstd", "-q", "--long=30", "-o", tmp_path / "x.tsv.zst"], input=b"a\tb\n", check=True)
    assert read(tmp_path / "x.tsv.zst") == [("a", "b")]
    subprocess.run(["zstd", "-q", tmp_path / "x.tsv.zst", "-o", tmp_path / "twice.tsv"], check=True)
    command = re.search(r"zstd .* > NEW", refusal(tmp_path / "twice.tsv"))[0]
    subprocess.run(command.replace("NEW", "once.tsv"), shell=True, check=True, cwd=tmp_path)
    assert read(tmp_path / "once.tsv") == [("a", "b")]


@given(st.lists(st.binary(max_size=9)))
def test_chunks_are_read_as_one_file(chunks):
    assert file_of_chunks(chunks).read() == b"".join(chunks)
