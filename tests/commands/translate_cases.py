"""Texts and results for the tests of the command ``translate``."""

import functools
import json
import re
import runpy
from pathlib import Path
from typing import NamedTuple

from transformer_jax import Translator

ROOT = Path(__file__).parent.parent.parent
main = runpy.run_path(str(ROOT / "translate.py"))["main"]
load = functools.cache(Translator.load)

TEXTS = ["Where is the dog?", "The old dog is here.", "Is it 3.5?"]
LONG = "Where is the old station? The old dog is here. Where is the old dog?"
"""More tokens than the tiny run was trained on."""

WARNING = re.compile(r"line \d+(?: and \d+ other lines?)?: ")


class Result(NamedTuple):
    """The exit status of a call, and the text that it wrote.

    warnings: the warnings about translations, which ``err`` does not contain: those of random parameters are arbitrary.
    """

    status: int
    out: str
    err: str
    warnings: list[str]

    @classmethod
    def of(cls, status, out, err):
        about_translations = [line for line in err.splitlines() if WARNING.match(line)]
        return cls(status, out, without_warnings(err), about_translations)

    @property
    def lines(self):
        assert self.status == 0, self.err
        assert self.out.endswith("\n")
        return self.out.removesuffix("\n").split("\n")

    def is_refusal(self, *fragments, status=2):
        """Check that the only output is one error line that contains the fragments."""
        assert self.status == status, self.err
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        assert self.out == ""
        for fragment in fragments:
            assert str(fragment) in self.err
        return True


def without_warnings(err):
    """Return the text of standard error without the warnings about translations."""
    return "".join(line for line in err.splitlines(keepends=True) if not WARNING.match(line))


def page_index(page):
    """Return the index of an attention page."""
    return json.loads(re.search(r'id="index">(.*?)</script>', page)[1])
