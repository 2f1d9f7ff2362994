"""The programs of docs/serving.md and docs/stablehlo.md, run without this package as on a server."""

import re
import subprocess
import sys
from pathlib import Path

from decisive import TEXTS

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("serving.md", "stablehlo.md"))
PACKAGE_IS_ABSENT = """
import importlib.util
assert importlib.util.find_spec("transformer_jax") is None
"""


def run_documented_program(package, model, directory):
    """Run the program that needs ``package`` on TEXTS in ``directory``, and return the lines that it prints."""
    programs = re.findall(r"^```python\n(.*?)^```$", PAGES, re.DOTALL | re.MULTILINE)
    [program] = [program for program in programs if re.match(f'"""[^"]* needs [^"]*{package}', program)]
    (directory / "serve.py").write_text(program + PACKAGE_IS_ABSENT, encoding="utf-8")
    # -I ignores the working directory and PYTHONPATH, where the tests find the package.
    command = [sys.executable, "-I", directory / "serve.py", model]
    process = subprocess.run(command, input="\n".join(TEXTS), capture_output=True, encoding="utf-8", cwd=directory)
    assert process.returncode == 0, process.stderr
    return process.stdout.split("\n")[:-1]
