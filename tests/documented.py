"""The arguments of the commands in a Markdown document."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def documented_commands(script, document):
    """Return the arguments of every `python SCRIPT` in the code blocks of a document.

    With -m MODULE, the option -m counts as the script.
    """
    calls = []
    for language, block in FENCED.findall(document):
        if language not in ("bash", "text"):
            continue
        for line in block.replace("\\\n", " ").split("\n"):
            if f"python {script}" not in line or (language == "text" and not line.startswith("!")):
                continue
            words = shlex.shlex(line.lstrip("!"), posix=True, punctuation_chars=True)
            words.whitespace_split = True
            calls += [arguments for program, arguments in simple_commands(list(words)) if program == script]
    return calls


def simple_commands(words):
    """Yield script and arguments of each `python` call between operators such as && and |.

    Variable assignments before the call are dropped.
    """
    command = []
    for word in [*words, ";"]:
        if set(word) <= set("();<>|&"):
            if "python" in command:
                _, script, *arguments = command[command.index("python") :]
                yield script, arguments
            command = []
        else:
            command.append(word)
