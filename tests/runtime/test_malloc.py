"""train.py restarts itself once with malloc's variables, unless the user has set them."""

import json
import os
import subprocess
import sys

import pytest

from transformer_jax.runtime.malloc import MALLOC_VARIABLES, TPU_DEVICES

PROGRAM = """
import json, os, sys
from transformer_jax.runtime.malloc import restart_with_tuned_malloc
print("started", flush=True)
restart_with_tuned_malloc()
print(json.dumps([sys.argv[1:], {name: os.environ.get(name) for name in %r}]))
"""


def start(*arguments, **extra):
    environment = {
        name: value for name, value in os.environ.items() if name not in (*MALLOC_VARIABLES, "JAX_PLATFORMS")
    }
    command = [sys.executable, "-c", PROGRAM % list(MALLOC_VARIABLES), *arguments]
    completed = subprocess.run(command, env={**environment, **extra}, check=True, capture_output=True, text=True)
    return completed.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="the variables are those of glibc")
def test_the_restart_keeps_arguments_and_sets_variables():
    first, second, state = start("--workdir", "a b")
    assert first == second == "started"
    assert json.loads(state) == [["--workdir", "a b"], MALLOC_VARIABLES]


def test_variables_set_by_the_user_prevent_the_restart():
    first, state = start(GLIBC_TUNABLES="glibc.malloc.check=0")
    assert first == "started"
    assert json.loads(state)[1]["GLIBC_TUNABLES"] == "glibc.malloc.check=0"
    assert json.loads(state)[1]["MALLOC_MMAP_THRESHOLD_"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="the variables are those of glibc")
@pytest.mark.parametrize(("platforms", "starts"), [("cpu", 2), ("cuda,cpu", 1), ("tpu", 1)])
def test_no_restart_with_an_accelerator(platforms, starts):
    assert start(JAX_PLATFORMS=platforms)[:-1] == ["started"] * starts


@pytest.mark.skipif(sys.platform != "linux", reason="the variables are those of glibc")
def test_no_restart_with_jax_plugins_installed(tmp_path):
    (tmp_path / "jax_plugins").mkdir()
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    assert start(PYTHONPATH=path)[:-1] == ["started"]


@pytest.mark.skipif(sys.platform != "linux", reason="the variables are those of glibc")
@pytest.mark.skipif(any(map(os.path.exists, TPU_DEVICES)), reason="this machine has a TPU")
def test_libtpu_without_a_tpu_does_not_prevent_the_restart(tmp_path):
    (tmp_path / "libtpu").mkdir()
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    assert start(PYTHONPATH=path)[:-1] == ["started"] * 2
