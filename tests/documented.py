"""The commands that a document names, as their arguments."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def documented_commands(script, document):
    """The arguments of every `python SCRIPT` in a document's blocks; -m MODULE counts as a script."""
    found = []
    for language, block in FENCED.findall(document):
        if language not in ("bash", "text"):
            continue
        for line in block.replace("\\\n", " ").split("\n"):
            if f"python {script}" not in line or (language == "text" and not line.startswith("!")):
                continue
            words = shlex.shlex(line.lstrip("!"), posix=True, punctuation_chars=True)
            words.whitespace_split = True
            found += [arguments for program, arguments in simple_commands(list(words)) if program == script]
    return found


def simple_commands(words):
    """Each `python SCRIPT ARGUMENTS` between &&, | and the like; assignments before it are dropped."""
    part = []
    for word in [*words, ";"]:
        if set(word) <= set("();<>|&"):
            if "python" in part:
                _, script, *arguments = part[part.index("python") :]
                yield script, arguments
            part = []
        else:
            part.append(word)
