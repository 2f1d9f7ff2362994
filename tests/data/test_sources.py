"""Every locator reads what was written, and every kind of bad input is one line that names the place."""

import gzip
import json
import lzma
import re
import sys

import pyarrow
import pyarrow.parquet
import pytest

from transformer_jax.data.sources import CHUNK, Pair, open_pairs
from transformer_jax.errors import InputError

# U+2028, U+0085, \f and \r are line ends for str.splitlines, but not for a parallel corpus.
ENGLISH = [
    "The house is red.",
    "A line\u2028that\x0bgoes\x85on\fand on.",
    "“Yes”, he\rsaid.",
    " Spaces stay. ",
    "日本 🙂",
]
GERMAN = ["Das Haus ist rot.", "Eine Zeile, die weitergeht.", "„Ja“, sagte er.", "Leerzeichen bleiben.", "Japan 🙂"]
PAIRS = [Pair(*pair) for pair in zip(ENGLISH, GERMAN, strict=True)]
COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def write(path, lines, suffix="", end="\n"):
    path.with_name(path.name + suffix).write_bytes(COMPRESS[suffix]("".join(line + end for line in lines).encode()))


def write_pair(folder, english, german):
    write(folder / "train.en", english)
    write(folder / "train.de", german)
    return f"{folder}/train.{{lang}}"


def refusal(locator, source="en", target="de", split="train"):
    """The message with which the locator is refused."""
    with pytest.raises(InputError) as caught:
        list(open_pairs(str(locator), source, target, split))
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(r"[.?]$|pip install", message), "the message ends with a remedy"
    return message


# Text files.


@pytest.mark.parametrize("suffix", COMPRESS)
def test_one_file_a_language(tmp_path, suffix):
    write(tmp_path / "train.en", ENGLISH, suffix)
    write(tmp_path / "train.de", GERMAN, suffix)
    locator = f"{tmp_path}/train.{{lang}}{suffix}"
    assert list(open_pairs(locator, "en", "de", "train")) == PAIRS
    assert open_pairs(locator, "de", "en", "test")[0] == Pair(GERMAN[0], ENGLISH[0])


def test_language_may_also_name_a_folder(tmp_path):
    for language, lines in (("en", ENGLISH), ("de", GERMAN)):
        (tmp_path / language).mkdir()
        write(tmp_path / language / f"x.{language}", lines)
    assert list(open_pairs(f"{tmp_path}/{{lang}}/x.{{lang}}", "en", "de", "train")) == PAIRS


def test_pairs_are_a_sequence(tmp_path):
    lines = [f"{n}" for n in range(CHUNK + 3)]
    pairs = open_pairs(write_pair(tmp_path, lines, lines), "en", "de", "train")
    assert len(pairs) == CHUNK + 3
    assert [pair.source for pair in pairs] == lines
    assert pairs[-1] == pairs[CHUNK + 2] == Pair(lines[-1], lines[-1])
    assert [pair.target for pair in pairs[5:1:-2]] == ["5", "3"]
    with pytest.raises(IndexError):
        pairs[CHUNK + 3]


def test_windows_line_ends_byte_order_mark_and_missing_last_line_end(tmp_path):
    (tmp_path / "train.en").write_bytes(b"\xef\xbb\xbfOne\r\nTwo\r\n")
    (tmp_path / "train.de").write_bytes(b"Eins\nZwei")
    assert list(open_pairs(f"{tmp_path}/train.{{lang}}", "en", "de", "train")) == [("One", "Eins"), ("Two", "Zwei")]


def test_a_byte_order_mark_elsewhere_is_text(tmp_path):
    locator = write_pair(tmp_path, ["a", "\ufeffb"], ["c", "d"])
    assert open_pairs(locator, "en", "de", "train")[1].source == "\ufeffb"


def test_unequal_line_counts_name_both_files_and_counts(tmp_path):
    message = refusal(write_pair(tmp_path, ["a", "b", "c"], ["d", "e"]))
    assert f"{tmp_path}/train.en has 3 lines but {tmp_path}/train.de has 2." in message


def test_blank_line_on_one_side(tmp_path):
    message = refusal(write_pair(tmp_path, ["a", "b", "c"], ["d", " \t", "f"]))
    assert message == (
        f"{tmp_path}/train.de:2 is blank but {tmp_path}/train.en:2 is not. Delete line 2 from both files."
    )
    message = refusal(write_pair(tmp_path, ["a", "b", ""], ["d", "e", "f"]))
    assert message == (
        f"{tmp_path}/train.en:3 is blank but {tmp_path}/train.de:3 is not. Delete line 3 from both files."
    )


def test_blank_line_on_both_sides(tmp_path):
    message = refusal(write_pair(tmp_path, ["a", ""], ["d", ""]))
    assert message == f"{tmp_path}/train.en:2 and {tmp_path}/train.de:2 are blank. Delete line 2 from both files."


def test_line_that_is_not_utf8(tmp_path):
    write(tmp_path / "train.en", ["a", "b"])
    (tmp_path / "train.de").write_bytes("gut\nschön\n".encode("latin-1"))
    message = refusal(f"{tmp_path}/train.{{lang}}")
    assert f"{tmp_path}/train.de:2 is not UTF-8" in message
    assert "byte 4" in message


def test_utf16_is_refused(tmp_path):
    write(tmp_path / "train.de", ["a"])
    (tmp_path / "train.en").write_bytes("a\n".encode("utf-16"))
    assert f"{tmp_path}/train.en:1 is not UTF-8" in refusal(f"{tmp_path}/train.{{lang}}")


def test_empty_files(tmp_path):
    locator = write_pair(tmp_path, [], [])
    assert f"{locator} holds no sentence pairs." in refusal(locator)


def test_missing_language_file_is_named_with_what_is_there(tmp_path):
    write(tmp_path / "train.en", ENGLISH)
    write(tmp_path / "train.de", GERMAN, ".gz")
    message = refusal(f"{tmp_path}/train.{{lang}}")
    assert message.startswith(f"{tmp_path}/train.de does not exist.")
    assert "Did you mean" in message
    assert "train.de.gz" in message


def test_missing_folder_and_folder_instead_of_file(tmp_path):
    assert "does not exist, nor does its folder" in refusal(tmp_path / "no" / "x.tsv")
    (tmp_path / "x.tsv").mkdir()
    assert "is a folder" in refusal(tmp_path / "x.tsv")


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("damage", ["truncated", "not compressed"])
def test_damaged_compression(tmp_path, suffix, damage):
    path = tmp_path / f"x.tsv{suffix}"
    whole = COMPRESS[suffix](b"".join(b"%d\t%d\n" % (n, n * n) for n in range(10_000)))
    path.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"a\tb\n")
    assert f"{path} is damaged after line " in refusal(path)


def test_flipped_byte_in_gzip(tmp_path):
    data = bytearray(gzip.compress(b"".join(b"%d\t%d\n" % (n, n * n) for n in range(10_000))))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "x.tsv.gz").write_bytes(data)
    assert "is damaged after line " in refusal(tmp_path / "x.tsv.gz")


# TSV, JSONL, Parquet.


@pytest.mark.parametrize("suffix", COMPRESS)
def test_tsv(tmp_path, suffix):
    write(tmp_path / "x.tsv", [f"{english}\t{german}" for english, german in PAIRS], suffix)
    assert list(open_pairs(f"{tmp_path}/x.tsv{suffix}", "en", "de", "valid")) == PAIRS


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("no tab", "x.tsv:2 has 0 tabs, not 1."),
        ("a\tb\tCC-BY 2.0", "x.tsv:2 has 2 tabs, not 1."),
        ("", "x.tsv:2, the source, is blank."),
        ("\tb", "x.tsv:2, the source, is blank."),
        ("a\t ", "x.tsv:2, the target, is blank."),
    ],
)
def test_bad_tsv_line(tmp_path, line, problem):
    write(tmp_path / "x.tsv", ["a\tb", line])
    assert problem in refusal(tmp_path / "x.tsv")


def rows(shape):
    flat = [{"en": english, "de": german, "id": n} for n, (english, german) in enumerate(PAIRS)]
    return flat if shape == "flat" else [{"id": row.pop("id"), "translation": row} for row in flat]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("shape", ["flat", "translation"])
def test_jsonl(tmp_path, suffix, shape):
    write(tmp_path / "x.jsonl", [json.dumps(row, ensure_ascii=False) for row in rows(shape)], suffix)
    assert list(open_pairs(f"{tmp_path}/x.jsonl{suffix}", "en", "de", "train")) == PAIRS


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "x.jsonl:2 is not JSON"),
        ('{"en": "a", "de": "b"', "x.jsonl:2 is not JSON"),
        ("[" * 100_000, "x.jsonl:2 is not JSON"),
        ('["a", "b"]', "x.jsonl:2 is JSON but no object."),
        ('{"en": "a", "fr": "b"}', "x.jsonl:2 has no 'de', only 'en', 'fr'."),
        ('{"translation": {"en": "a"}}', "x.jsonl:2 has no 'de', only 'en'."),
        ("{}", "x.jsonl:2 has no 'en', only nothing."),
        ('{"en": "a", "de": 7}', "x.jsonl:2, 'de', is 7, not text."),
        ('{"en": null, "de": "b"}', "x.jsonl:2, 'en', is null, not text."),
        ('{"en": "a", "de": " "}', "x.jsonl:2, 'de', is blank."),
        ('{"en": "a\\ud83d", "de": "b"}', "x.jsonl:2, 'en', holds half a surrogate pair"),
    ],
)
def test_bad_jsonl_line(tmp_path, line, problem):
    write(tmp_path / "x.jsonl", ['{"en": "a", "de": "b"}', line])
    assert problem in refusal(tmp_path / "x.jsonl")


@pytest.mark.parametrize("shape", ["flat", "translation"])
def test_parquet(tmp_path, shape):
    table = pyarrow.Table.from_pylist(rows(shape))
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    assert list(open_pairs(f"{tmp_path}/x.parquet", "en", "de", "train")) == PAIRS
    assert open_pairs(f"{tmp_path}/x.parquet", "de", "en", "train")[1] == Pair(GERMAN[1], ENGLISH[1])


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ({"en": "a", "de": None}, "row 1, 'de', is null, not text."),
        ({"en": "\n", "de": "b"}, "row 1, 'en', is blank."),
    ],
)
def test_bad_parquet_row(tmp_path, second, problem):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"en": "a", "de": "b"}, second]), tmp_path / "x.parquet")
    assert problem in refusal(tmp_path / "x.parquet")


def test_parquet_without_the_language_names_the_columns(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"en": ["a"], "text": ["b"]}), tmp_path / "x.parquet")
    assert "x.parquet has no 'de', only 'en', 'text'." in refusal(tmp_path / "x.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"translation": {"en": "a"}}]), tmp_path / "x.parquet")
    assert "x.parquet has no 'de', only 'en'." in refusal(tmp_path / "x.parquet")


def test_damaged_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows("flat")), path)
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path} is no whole Parquet file" in refusal(path)


def test_empty_parquet(tmp_path):
    schema = pyarrow.schema({"en": pyarrow.string(), "de": pyarrow.string()})
    pyarrow.parquet.write_table(schema.empty_table(), tmp_path / "x.parquet")
    assert "holds no sentence pairs" in refusal(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    "locator", ["", "phrasebok", "x.csv", "x.parquet.gz", "s3://x/y", "x.tsv?split=train", "hf://"]
)
def test_unknown_locator_lists_the_kinds(locator):
    message = refusal(locator)
    assert message.startswith(f"{locator!r} is no known kind")
    for kind in ("{lang}", ".tsv", ".jsonl", ".parquet", "hf://", "tfds://", "phrasebook"):
        assert kind in message


# The embedded corpus.


def test_phrasebook():
    from transformer_jax.data.phrasebook import generate

    corpus = generate()
    for split in ("train", "valid", "test"):
        pairs = open_pairs("phrasebook", "en", "de", split)
        assert len(pairs) == len(corpus[split])
        assert pairs[0] == tuple(corpus[split][0])
        assert open_pairs("phrasebook", "de", "en", split)[-1] == tuple(corpus[split][-1])[::-1]


def test_phrasebook_knows_two_languages():
    assert "phrasebook is en and de, not en to fr." in refusal("phrasebook", "en", "fr")
    assert "not en to en" in refusal("phrasebook", "en", "en")


# Hugging Face.


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set folder as on the hub, with two configs, and no network."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "books"
    configs = ""
    for shape in ("translation", "flat"):
        (folder / shape).mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(shape)), folder / shape / "train-00000.parquet")
        configs += f"- config_name: {shape}\n  data_files:\n  - split: train\n    path: {shape}/train-*\n"
    bad = [{"en": "a", "de": "b", "id": 0}, {"en": "", "de": "b", "id": 1}, {"en": "c", "de": None, "id": 2}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(bad), folder / "flat" / "validation-00000.parquet")
    configs += "  - split: validation\n    path: flat/validation-*\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return folder


@pytest.mark.parametrize("config", ["translation", "flat"])
def test_hf_folder(hub, config):
    pairs = open_pairs(f"hf://{hub}:{config}?split=train", "en", "de", "test")
    assert list(pairs) == PAIRS
    assert pairs[-1] == PAIRS[-1]
    assert pairs[1:3] == PAIRS[1:3]


def test_hf_takes_the_librarys_slices(hub):
    assert list(open_pairs(f"hf://{hub}:translation?split=train[:40%]", "en", "de", "train")) == PAIRS[:2]
    assert list(open_pairs(f"hf://{hub}:translation?split=train[40%:]", "en", "de", "train")) == PAIRS[2:]


def test_hf_fingerprint_tells_rows_apart(hub):
    def fingerprint(rows):
        return open_pairs(f"hf://{hub}:{rows}", "en", "de", "train").fingerprint

    first = fingerprint("flat")
    assert fingerprint("flat") == first
    assert len({first, fingerprint("flat?split=train[:40%]"), fingerprint("translation")}) == 3


def test_hf_split_is_named_by_the_role(hub):
    assert len(open_pairs(f"hf://{hub}:flat", "en", "de", "train")) == len(PAIRS)
    assert len(open_pairs(f"hf://{hub}:flat", "en", "de", "valid")) == 3
    assert "Unknown split \"test\". Should be one of ['train', 'validation']" in refusal(
        f"hf://{hub}:flat", split="test"
    )


def test_hf_passes_blank_sentences_on_and_refuses_null(hub):
    pairs = open_pairs(f"hf://{hub}:flat", "en", "de", "valid")
    assert pairs[1] == Pair("", "b")
    with pytest.raises(InputError, match="row 2, 'de', is null, not text"):
        pairs[2]


def test_hf_rows_stay_on_disk(hub, monkeypatch):
    import datasets

    def refuse(self, *_):
        raise AssertionError("read from end to end")

    monkeypatch.setattr(datasets.Dataset, "__iter__", refuse)
    monkeypatch.setattr(datasets.Dataset, "to_list", refuse)
    pairs = open_pairs(f"hf://{hub}:translation", "en", "de", "train")
    assert pairs[2] == PAIRS[2]


def test_hf_wrong_names_are_answered_with_the_right_ones(hub):
    assert "no 'fr', only 'en', 'de', 'id'" in refusal(f"hf://{hub}:flat", "fr")
    assert "no 'fr', only 'de', 'en'" in re.sub("'en', 'de'", "'de', 'en'", refusal(f"hf://{hub}:translation", "fr"))
    assert "Available: ['translation', 'flat']" in refusal(f"hf://{hub}:en-de")
    assert "Unrecognized instruction format" in refusal(f"hf://{hub}:flat?split=train[:x%]")
    assert "?slit=train is not understood." in refusal(f"hf://{hub}:flat?slit=train")
    assert f"Couldn't find any data file at {hub}x" in refusal(f"hf://{hub}x")


def test_hf_without_network_names_the_remedy(hub):
    message = refusal("hf://nobody/nothing:en-de")
    assert message.startswith("hf://nobody/nothing:en-de cannot be reached")
    assert "hf download --repo-type dataset nobody/nothing" in message
    assert "hf:///path/to/FOLDER" in message


# TensorFlow Datasets.


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    """The real builder of wmt14_translate with only its download replaced; returns what stands for the download."""
    wmt14 = pytest.importorskip("tensorflow_datasets.translate.wmt14")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    def download(self, _):
        splits = {"train": rows("flat"), "validation": rows("flat")[:2], "test": rows("flat")[3:]}
        return {
            name: [(row["id"], {"en": row["en"], "de": row["de"]}) for row in split] for name, split in splits.items()
        }

    def set_download(function):
        monkeypatch.setattr(wmt14.Wmt14Translate, "_split_generators", function)

    set_download(download)
    return set_download


def no_network(self, _):
    raise ConnectionError("www.statmt.org cannot be resolved")


def test_tfds_prepares_once_and_then_reads_from_disk(tfds, tmp_path):
    # The library shuffles the examples when it prepares them.
    assert sorted(open_pairs("tfds://wmt14_translate/de-en", "en", "de", "train")) == sorted(PAIRS)
    assert list(tmp_path.glob("wmt14_translate/de-en/1.0.0/*-train.array_record-00000-of-00001"))
    tfds(no_network)
    pairs = open_pairs("tfds://wmt14_translate/de-en", "de", "en", "valid")
    assert sorted(pairs) == sorted(pair[::-1] for pair in PAIRS[:2])
    assert pairs[:2] == [pairs[0], pairs[-1]]
    part = open_pairs("tfds://wmt14_translate/de-en?split=train[:40%]", "en", "de", "test")
    assert len(part) == 2
    assert part.fingerprint == f"{tmp_path}/wmt14_translate/de-en/1.0.0?split=train[:40%]"
    assert "tensorflow" not in sys.modules


def test_tfds_wrong_names_are_answered_with_the_right_ones(tfds):
    assert "no 'fr', only 'de', 'en'" in refusal("tfds://wmt14_translate/de-en", "fr")
    assert "Should be one of ['train', 'validation', 'test']" in refusal("tfds://wmt14_translate/de-en?split=dev")
    assert "de-xx not found" in refusal("tfds://wmt14_translate/de-xx")
    assert "Dataset nothing_translate not found" in refusal("tfds://nothing_translate/de-en")


def test_tfds_without_network_names_the_remedy(tfds):
    tfds(no_network)
    message = refusal("tfds://wmt14_translate/de-en")
    assert "cannot be downloaded or read (www.statmt.org cannot be resolved)" in message
    assert "set TFDS_DATA_DIR" in message


def test_tfds_bytes_that_are_not_utf8(tfds):
    tfds(lambda self, _: {"train": [(0, {"en": b"sch\xf6n", "de": "b"})]})
    assert "row 0, 'en', is not UTF-8" in refusal("tfds://wmt14_translate/de-en")


def test_tfds_damaged_files(tfds, tmp_path):
    open_pairs("tfds://wmt14_translate/de-en", "en", "de", "train")
    for path in tmp_path.glob("wmt14_translate/de-en/1.0.0/*-train.array_record*"):
        path.unlink()
    assert "cannot be read" in refusal("tfds://wmt14_translate/de-en")


@pytest.mark.parametrize("package", ["tensorflow_datasets", "array_record", "importlib_resources"])
def test_tfds_not_installed(monkeypatch, package):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal("tfds://wmt14_translate/de-en")
    assert package in message
    assert message.endswith("pip install tensorflow-datasets array_record importlib_resources")
