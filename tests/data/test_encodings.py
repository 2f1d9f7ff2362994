"""Encodings are recognized only if the text shows them clearly."""

import lzma
import time

import pytest

from transformer_jax.data.encodings import (
    SAMPLE_BYTES,
    UNKNOWN,
    Evidence,
    conversion_command,
    detect_wide_encoding,
    guess_encoding,
)

WIDE = ["UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32", "UTF-32LE", "UTF-32BE"]
TEXTS = {
    "en": "Where is the old station?\nI would like two tickets.\n",
    "de": "Das Mädchen trägt ein schönes Kleid.\n",
    "ru": "Где находится старый вокзал?\nДевочка улыбается.\n",
    "el": "Πού είναι ο παλιός σταθμός;\n",
    "ar": "أين المحطة القديمة؟\n",
    "hi": "पुराना स्टेशन कहाँ है?\nनमस्ते\n",
    "th": "สถานีเก่าอยู่ที่ไหน\n",
    "ja": "古い駅はどこですか。\n女の子が笑っています。\n",
    "zh": "旧车站在哪里？\n我想要两张明天早上的票。\n一个女孩在笑。\n",
    "ko": "역이 어디에 있습니까?\n",
    "emoji": "🙂 yes\n🙂\n",
}


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("encoding", WIDE)
def test_utf16_and_utf32_are_detected_in_every_script(encoding, language):
    assert detect_wide_encoding(TEXTS[language].encode(encoding)) == encoding
    long = (TEXTS[language] * 2000).encode(encoding)
    assert detect_wide_encoding(long[:65_533]) == encoding, "the sample may end within a character"


@pytest.mark.parametrize("language", TEXTS)
def test_utf8_is_not_taken_for_utf16(language):
    for content in (TEXTS[language].encode(), TEXTS[language].encode("utf-8-sig")):
        assert detect_wide_encoding(content) is None
        assert detect_wide_encoding(content.replace(b"\n", b"\0\n")) is None, "NULs alone do not make UTF-16"


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\0" * 97, b"\0\n", b"The\0dog.\n", b" \0ab", b"a\n\0\nb\n", b"The caf\xe9\0.\n", bytes(range(256))],
)
def test_nul_bytes_in_other_content_are_not_utf16(content):
    assert detect_wide_encoding(content) is None


def guess(text, encoding):
    lines = [line for line in text.encode(encoding).split(b"\n") if not line.isascii()]
    return guess_encoding(Evidence(0, tuple(lines)))


@pytest.mark.parametrize(
    "text",
    [
        "Das Mädchen trägt ein schönes grünes Kleid. »Öl«, sagte er. TÜR",
        "Où est la gare ? L’été, «\xa0là\xa0», il a mangé à la crèmerie.",
        "He said “no” – it’s 10\xa0€ at the café…",
        "¿Dónde está la estación? ¡Mañana!",
        "As ações não são más.",
        "Åsa åker över ån. Rødgrød med fløde på ø.",
        "Ääni yöllä.",
    ],
)
def test_western_text_is_recognized(text):
    assert guess(text, "windows-1252") == "WINDOWS-1252"


@pytest.mark.parametrize(
    ("text", "encodings"),
    [
        (TEXTS["ru"], ["koi8-r", "cp1251", "iso8859-5", "cp866"]),
        (TEXTS["ja"], ["shift-jis", "euc-jp"]),
        (TEXTS["zh"], ["gbk", "gb18030"]),
        (TEXTS["ko"], ["euc-kr"]),
        (TEXTS["el"], ["iso8859-7"]),
        (TEXTS["ar"], ["cp1256"]),
        ("Chciałbym dwa bilety na jutro rano, proszę. Żółta łódź.", ["iso8859-2", "cp1250"]),
        ("Starý muž si přečetl knihu a šel na nádraží. Žlutý vlak už byl příliš daleko.", ["iso8859-2", "cp1250"]),
        ("Yarın sabah için iki bilet istiyorum, lütfen.", ["iso8859-9"]),
    ],
)
def test_other_encodings_are_not_called_western(text, encodings):
    assert {guess(text, encoding) for encoding in encodings} == {UNKNOWN}


@pytest.mark.parametrize(
    "line",
    [
        "für Köln".encode() + b"\xff",
        "日本語".encode()[:-1],
        b"I don\xe2\x80t know.",  # A truncated apostrophe.
        b"end\xe2\x80 of a quotation",
        b"a \xff b",
        b"sch\xc3n",  # A truncated "ö".
    ],
)
def test_damaged_utf8_is_not_called_western(line):
    assert guess_encoding(Evidence(0, (line,))) == UNKNOWN


def test_one_utf8_line_shows_that_the_file_is_utf8():
    assert guess_encoding(Evidence(1, (b"sch\xf6n",))) == "UTF-8"
    assert guess_encoding(Evidence(0, (b"sch\xf6n",))) == "WINDOWS-1252"


def test_commands_quote_paths_and_decompress(tmp_path):
    compressed = tmp_path / "a"
    compressed.write_bytes(lzma.compress(b"a"))
    assert conversion_command("UTF-16", "my file") == "iconv -f UTF-16 -t UTF-8 'my file' > NEW"
    assert conversion_command("UTF-16", compressed) == f"xz -dc {compressed} | iconv -f UTF-16 -t UTF-8 > NEW"
    assert conversion_command("UTF-16", None) == "iconv -f UTF-16 -t UTF-8"
    assert conversion_command("UTF-8", None) == "iconv -c -f UTF-8 -t UTF-8", "-c removes invalid bytes"


def test_detection_takes_less_than_a_second():
    start = time.monotonic()
    detect_wide_encoding((TEXTS["zh"] * 9999).encode("utf-16-le")[:SAMPLE_BYTES])
    guess_encoding(Evidence(0, (b"\xe4" * SAMPLE_BYTES, b"a\xe4" * SAMPLE_BYTES)))
    assert time.monotonic() - start < 1
