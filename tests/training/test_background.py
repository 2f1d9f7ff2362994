"""Background compilation prepares the programs of the next shapes and of the validation, and reports its errors."""

import dataclasses
import logging
import os
import shutil
import signal
import threading
import time

import jax
import pytest
from number_words import assert_same_run

from transformer_jax.errors import StoppedBySignal
from transformer_jax.storage.checkpoints import Checkpoints
from transformer_jax.training import background, loop
from transformer_jax.training.background import BackgroundCompiler, is_worthwhile


@pytest.fixture
def in_background(monkeypatch):
    """Compile in the background although the devices are CPUs."""
    monkeypatch.setattr(loop, "is_worthwhile", lambda: True)


def test_cpus_do_not_compile_in_the_background(monkeypatch):
    assert not is_worthwhile()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert is_worthwhile()


def test_waiting_for_a_failed_task_raises_its_error():
    compiler = BackgroundCompiler()
    compiler.start("validation", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        compiler.wait("validation")
    compiler.wait("validation")
    compiler.close()


def test_closing_waits_for_the_running_task_only(caplog):
    caplog.set_level(logging.INFO)
    compiler, finished, has_begun = BackgroundCompiler(), [], threading.Event()

    def task(name):
        has_begun.set()
        time.sleep(0.2)
        finished.append(name)

    for name in ("first", "second"):
        compiler.start(name, lambda name=name: task(name))
    has_begun.wait()
    compiler.close()
    assert finished == ["first"]
    assert caplog.messages == ["waiting for a compilation to finish ..."]


def test_programs_are_compiled_before_they_are_needed(in_background, make_config, tmp_path, caplog):
    config = make_config(steps=5)
    two_shapes = dataclasses.replace(config, data=dataclasses.replace(config.data, row_length=3))
    jax.clear_caches()  # Other tests may have compiled the same programs.
    jax.config.update("jax_log_compiles", True)  # The context manager would log only this thread.
    try:
        with caplog.at_level(logging.WARNING), caplog.at_level(logging.WARNING, logger="jax"):
            loop.fit(two_shapes, tmp_path / "run")
    finally:
        jax.config.update("jax_log_compiles", False)
    compiled = {True: [], False: []}  # In the background or not -> names of the programs.
    for record in caplog.records:
        if record.message.startswith("Compiling jit("):
            name = record.message.partition("(")[2].partition(")")[0]
            compiled[record.threadName.startswith("compile")].append(name)
    assert compiled[True].count("train_step") == 2
    for name in ("train_step", "summed_loss", "decode_all"):
        assert name in compiled[True]
        assert name not in compiled[False]


def test_background_compilation_changes_no_result(in_background, make_config, finished_run, tmp_path):
    loop.fit(make_config(), tmp_path / "run")
    assert_same_run(tmp_path / "run", finished_run)


def test_a_failed_background_compilation_loses_no_update(in_background, make_config, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("ptxas ended")

    monkeypatch.setitem(background.VALIDATION_TASKS, "translation", fail)
    with pytest.raises(RuntimeError, match="ptxas ended"):
        loop.fit(make_config(), tmp_path / "run")
    assert Checkpoints(tmp_path / "run/checkpoints").latest_step() == 4


def test_a_signal_saves_before_it_waits_for_a_compilation(in_background, make_config, tmp_path, monkeypatch):
    saved = []

    def compile_slowly(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 60
        while not saved and time.monotonic() < deadline:
            saved.extend((tmp_path / "run/checkpoints").glob("[1-9]"))
            time.sleep(0.01)

    monkeypatch.setitem(background.VALIDATION_TASKS, "validation loss", compile_slowly)
    with pytest.raises(StoppedBySignal, match="SIGTERM"):
        loop.fit(make_config(), tmp_path / "run")
    assert saved


def test_nan_checks_still_compile_the_validation(in_background, make_config, finished_run, tmp_path):
    loop.fit(make_config(), tmp_path / "run", debug_nans=True)
    assert_same_run(tmp_path / "run", finished_run)


def test_a_finished_run_compiles_nothing_ahead(in_background, make_config, finished_run, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.setattr(loop, "compile_ahead", lambda *arguments: 1 // 0)
    loop.fit(make_config(), workdir)
    with pytest.raises(ZeroDivisionError):
        loop.fit(make_config(steps=13), workdir)
