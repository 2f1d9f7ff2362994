"""The programs of docs/serving.md, run as a server runs them: without this package."""

import re
import subprocess
import sys
from pathlib import Path

from decisive import TEXTS

SERVING = (Path(__file__).parent.parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
ALONE = """
import importlib.util
assert importlib.util.find_spec("transformer_jax") is None
"""


def example(place, package, folder):
    """What the program that needs ``package`` prints for TEXTS, a line for each."""
    programs = re.findall(r"^```python\n(.*?)^```$", SERVING, re.DOTALL | re.MULTILINE)
    [program] = [one for one in programs if re.match(f'"""[^"]* needs [^"]*{package}', one)]
    (place / "serve.py").write_text(program + ALONE, encoding="utf-8")
    # -I: neither the working folder nor PYTHONPATH, from which these tests have the package.
    command = [sys.executable, "-I", place / "serve.py", folder]
    ended = subprocess.run(command, input="\n".join(TEXTS), capture_output=True, encoding="utf-8", cwd=place)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split("\n")[:-1]
