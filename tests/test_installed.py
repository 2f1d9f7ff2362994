"""The installed package trains and translates in an empty directory."""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from documented import ROOT
from simulated_devices import simulate_devices


def test_every_folder_of_the_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "transformer_jax").rglob("*.py")}
    assert sorted(listed) == sorted([".".join(folder.parts) for folder in folders] + ["transformer_jax.configs"])


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Run a shell command in an empty directory, in an environment that holds the wheel and the tests' libraries."""
    folder = tmp_path_factory.mktemp("installed")
    # Built from a copy, since setuptools writes next to the sources.
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).exists():
            (folder / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "checkout" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "checkout")]
    subprocess.run([*pip, *build], check=True)
    environment = folder / "venv"
    venv.create(environment, with_pip=False)
    [wheel] = folder.glob("*.whl")
    subprocess.run([*pip, "--python", str(environment), "install", "--no-deps", str(wheel)], check=True)
    # Installing the libraries again would take minutes and the network.
    [site] = environment.glob("lib/*/site-packages")
    (site / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    (folder / "empty").mkdir()
    variables = {name: value for name, value in simulate_devices(1).items() if name != "PYTHONPATH"}
    variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables['PATH']}"

    def run(command):
        shell = ["bash", "-c", command]
        return subprocess.run(
            shell, cwd=folder / "empty", env=variables, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    return run


def test_the_installed_command_trains_and_translates(installed):
    package = installed("python -c 'import transformer_jax; print(transformer_jax.__file__)'")
    assert not Path(package).is_relative_to(ROOT)
    assert "translate" in installed("transformer-jax --help")
    options = "--training.steps 40 --training.valid-every 40 --training.valid-sentences 20"
    # Without it, a model that has learned nothing would translate the test set of the phrasebook.
    installed("printf 'Our cat sleeps.\tUnsere Katze schläft.\n' > test.tsv")
    trained = installed(f"transformer-jax train --config phrasebook --data.test test.tsv {options}")
    next_command = trained.rstrip("\n").split("\n")[-1]
    assert next_command.startswith("transformer-jax translate ")
    assert installed(next_command).count("\n") == 1
    assert "<html" in installed("cat out/index.html")
