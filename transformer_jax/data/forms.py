"""Forms of files, known by the suffix of their name, and what to do about those that are not read."""

from __future__ import annotations

from pathlib import Path

from transformer_jax.data.compression import COMPRESSION_SUFFIXES
from transformer_jax.data.encodings import extraction_to_pipe, text_command
from transformer_jax.errors import InputError
from transformer_jax.terminal import quote

FORM_NAMES = {
    ".tsv": "tab-separated values",
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines"), "JSON lines"),
    ".parquet": "Parquet",
    ".json": "JSON",
    ".csv": "comma-separated values",
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".pdf", ".xls", ".xlsx", ".ods", ".pptx", ".epub"), "a document"),
    **dict.fromkeys((".xml", ".tmx", ".xliff", ".xlf", ".sgm", ".sgml", ".html", ".srt", ".vtt"), "markup"),
    **dict.fromkeys((".arrow", ".feather", ".npy", ".npz", ".pkl", ".db", ".sqlite"), "binary data"),
}
"""Suffix of a file that is not plain text -> name of its form. Plain text has any other suffix."""
CSV_TO_TSV = "import csv, fileinput; [print(*row[:2], sep=chr(9)) for row in csv.reader(fileinput.input())]"
"""Python code that prints the first two columns of a file or of standard input."""


def form_suffix(path: str) -> str:
    """Return the suffix that names the form of a file, in lower case, such as ".tsv" for "x.TSV.gz"."""
    return Path(COMPRESSION_SUFFIXES.sub("", path)).suffix.lower()


def require_plain_text_name(locator: str, source: str, target: str) -> None:
    """Raise InputError if files with one language each have a suffix of another form than plain text.

    The suffix ``.{lang}`` has no form, although some language codes, such as doc, tar and tsv, are also suffixes.
    """
    form = form_suffix(locator)
    if form not in FORM_NAMES:
        return
    paths = [locator.replace("{lang}", language) for language in (source, target)]
    key, sentences = (f"{text_command(command, paths[0])}.{source}" for command in ("jq -r .text", "jq -r '.[]'"))
    remedy = {
        ".tsv": f"Join them (paste {' '.join(map(_shell_input, paths))} > NEW.tsv), and use NEW.tsv.",
        "JSON lines": f"Extract a key such as text ({key}), and use NEW.{{lang}}.",
        ".json": f"Extract the sentences ({sentences}), and use NEW.{{lang}}.",
        "Parquet": f"Write one file with the columns {source} and {target}, and use its path.",
    }
    default = "Save each as plain text with one sentence per line, and use path/NEW.{lang}."
    raise InputError(
        f"{locator} is {FORM_NAMES[form]}, but files with one language each must be plain text. "
        f"{remedy.get(form) or remedy.get(FORM_NAMES[form], default)}"
    )


def conversion_remedy(locator: str) -> str:
    """Return a sentence that says how to convert a file of an unknown form, or nothing if the form has no name."""
    form = form_suffix(locator)
    if FORM_NAMES.get(form) == "JSON lines":
        return f"Rename it (mv {quote(Path(locator))} NEW.jsonl). "
    if form == ".json":
        command = text_command("jq -c '.[]'", locator)
        return f"Convert it to JSON lines ({command}.jsonl). "
    if form == ".csv":
        command = text_command(f"python -c {quote(CSV_TO_TSV)}", locator)
        return f"Convert it to tab-separated values ({command}.tsv). "
    if form in FORM_NAMES and form not in (".tsv", ".parquet"):
        return f"Save the text of {FORM_NAMES[form]} as tab-separated values. "
    return ""


def _shell_input(path: str) -> str:
    """Return the argument that makes a command of bash or zsh read the text of a plain or compressed file."""
    extraction = extraction_to_pipe(path)
    return f"<({extraction})" if extraction else quote(Path(path))
