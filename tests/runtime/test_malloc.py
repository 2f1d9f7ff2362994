"""train.py restarts itself once with the allocator's settings, and keeps what the user has set."""

import json
import os
import subprocess
import sys

import pytest

from transformer_jax.runtime.malloc import MALLOC_VARIABLES

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
    done = subprocess.run(command, env={**environment, **extra}, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are those of glibc")
def test_a_program_starts_again_with_its_arguments_and_the_settings():
    first, second, state = start("--workdir", "a b")
    assert first == second == "started"
    assert json.loads(state) == [["--workdir", "a b"], MALLOC_VARIABLES]


def test_settings_of_the_user_are_left_alone():
    only, state = start(GLIBC_TUNABLES="glibc.malloc.check=0")
    assert only == "started"
    assert json.loads(state)[1]["GLIBC_TUNABLES"] == "glibc.malloc.check=0"
    assert json.loads(state)[1]["MALLOC_MMAP_THRESHOLD_"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are those of glibc")
@pytest.mark.parametrize(("platforms", "starts"), [("cpu", 2), ("cuda,cpu", 1), ("tpu", 1)])
def test_a_program_for_an_accelerator_starts_once(platforms, starts):
    assert start(JAX_PLATFORMS=platforms)[:-1] == ["started"] * starts


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are those of glibc")
def test_packages_for_a_gpu_are_an_accelerator(tmp_path):
    (tmp_path / "jax_plugins").mkdir()
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    assert start(PYTHONPATH=path)[:-1] == ["started"]
