"""All benchmarks for a GPU in one command, most important first, with a time limit of 12 minutes.

    pip install -r requirements.txt "jax[cuda13]" torch transformers
    python -m benchmarks.gpu --output runs/gpu                      # on the phrasebook
    python -m benchmarks.gpu --output runs/gpu --data data          # on data/multi30k
    python -m benchmarks.gpu --output /tmp/gpu --suite toy          # rehearsal on a CPU

Parts of one stage run at the same time. The stage "preparation" compiles for the later stages, which are timed alone,
and makes the comparisons that need no timing. Each part has a time limit. ``gpu.json`` in the output directory contains
everything that has been measured, and is written after each part. The same command runs only the parts that are not
done, so it can continue after a time limit. Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import tyro

from benchmarks.record import Spread
from transformer_jax.data.sources import open_pairs
from transformer_jax.storage import atomic
from transformer_jax.storage.lines import write_lines

ROOT = Path(__file__).parent.parent
GRACE_SECONDS = 10
"""Time between SIGTERM and SIGKILL. A training saves a checkpoint in it."""
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Environment variables of all parts. Parts of one stage share the memory of the GPU."""
TOY_PAIRS = "toy.tsv"
"""File in the output directory with the pairs of the suite ``toy``."""
OPTIONS_OF_TOY_MODEL = (
    *("--model.d-model", "16", "--model.d-ff", "24", "--model.heads", "2", "--training.steps", "53"),
    *("--training.valid-every", "53", "--training.valid-sentences", "7", "--decoding.beam", "1"),
)
# The average of weights of the recipe is for many more updates.
OPTIONS_OF_MODEL = (
    *("--optimizer.warmup", "200", "--optimizer.factor", "0.2", "--training.ema", "0.99", "--training.steps", "600"),
    *("--training.valid-every", "600", "--training.save-every", "0", "--training.valid-sentences", "100"),
)
RIVALS = ("PyTorch", "Hugging Face")


@dataclass(frozen=True)
class GpuBenchmark:
    """Run all benchmarks for a GPU."""

    output: Path
    """Directory for the records, logs and run directories."""
    data: Path | None = None
    """Directory that contains multi30k/. Default: measure on the phrasebook."""
    suite: Literal["gpu", "toy"] = "gpu"
    """Sizes of models, batches and texts. The suite ``toy`` takes minutes on a CPU."""
    minutes: float = 12
    """Time limit of the whole command. Parts that do not fit are left for the next call."""

    def locators(self, suffix: str = "") -> dict[str, str]:
        """Return the locators of the training, validation and test pairs by option of train.py.

        suffix: end of the names of the files of Multi30k, without language.
        """
        names = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
        if self.suite == "toy":
            return {f"--data.{kind}": str(self.output / TOY_PAIRS) for kind in names}
        if self.data is None:
            return {f"--data.{kind}": "phrasebook" for kind in names}
        return {f"--data.{kind}": f"{self.data}/multi30k/{name}{suffix}.{{lang}}.gz" for kind, name in names.items()}


@dataclass(frozen=True)
class Part:
    """A command with a time limit.

    name: name of the part, and of its log file in the output directory.
    command: arguments of Python.
    seconds: time limit.
    record: JSON file that the command writes; None if it only prepares.
    environment: additional environment variables.
    """

    name: str
    command: Sequence[str]
    seconds: float
    record: Path | None
    environment: dict[str, str] = field(default_factory=dict)


Stages: TypeAlias = dict[str, list[Part]]


def make_stages(benchmark: GpuBenchmark) -> Stages:
    """Return the parts by stage, in the order in which they run."""
    output, toy = benchmark.output, benchmark.suite == "toy"
    patience = 5 if toy else 1  # The limits are those of a GPU.
    run = ["--workdir", str(output / "model"), "--source", str(output / "source.en")]
    suite = ["--suite", benchmark.suite, "--train", benchmark.locators()["--data.train"], "--systems"]
    slots = ["--slots", *(["2", "3"] if toy else ["64", "256", "1024"]), "--sentences", "7" if toy else "4096"]
    decoding = [*run, *slots, "--dtype", "bfloat16", "--singles", "10", "--systems"]
    systems = {
        "training-transformer_jax": ["benchmarks.training", *suite, "transformer_jax"],
        "training-pytorch": ["benchmarks.training", *suite, "PyTorch"],
        "decoding-transformer_jax": ["benchmarks.decoding", *decoding, "transformer_jax"],
        "decoding-hugging_face": ["benchmarks.decoding", *decoding, "Hugging Face"],
    }

    def measured(name: str, seconds: float, command: Sequence[str], options: Sequence[str] = ()) -> Part:
        record = output / f"{name}.json"
        end = ["--", *options] if options else []
        return Part(name, ["-m", *command, "--output", str(record), *end], patience * seconds, record)

    def resume(name: str) -> Part:
        steps = ["--steps", "43", "--kills", "23"] if toy else []
        options = flatten_options(benchmark.locators()) if toy else []
        return measured(name, 200, ["benchmarks.resume", "--directory", str(output / name), *steps], options)

    deterministic = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"}
    start = ["benchmarks.training_start", "--workdir", str(output / "model")]
    return {
        "start": [measured("training-start", 240, start, model_options(benchmark))],
        "preparation": [
            *(
                Part(f"compile-{name}", ["-m", *command, "--repeats", "0"], patience * 200, None)
                for name, command in systems.items()
                if name != "decoding-hugging_face"  # It compiles nothing.
            ),
            measured("same-search", 200, ["benchmarks.same_search", *run, "--sentences", "7" if toy else "1000"]),
            resume("resume"),
            dataclasses.replace(resume("resume-deterministic"), environment=deterministic),
        ],
        **{
            name: [measured(name, 150, [*command, "--repeats", "5" if "training" in name else "3"])]
            for name, command in systems.items()
        },
        "seeds": [seed_part(benchmark, seed) for seed in range(1 if toy else 3)],
    }


def flatten_options(options: Mapping[str, str]) -> list[str]:
    """Return options with their values as arguments."""
    return [word for option in options.items() for word in option]


def model_options(benchmark: GpuBenchmark) -> list[str]:
    """Return the options of train.py for the model whose start and decoding are timed: post-norm, for Hugging Face."""
    data = flatten_options(benchmark.locators())
    if benchmark.suite == "toy":
        return [*data, "--model.norm", "post", *OPTIONS_OF_TOY_MODEL]
    return ["--config", "wmt14_base", *data, *OPTIONS_OF_MODEL]


def seed_part(benchmark: GpuBenchmark, seed: int) -> Part:
    """Return a training of multi30k_tiny with this seed or, without data, of the phrasebook."""
    has_data, toy = benchmark.data and benchmark.suite == "gpu", benchmark.suite == "toy"
    run = benchmark.output / f"seed-{seed}"
    command = [
        *("train.py", "--config", "multi30k_tiny" if has_data else "phrasebook", "--workdir", str(run)),
        *flatten_options(benchmark.locators(".lc.norm.tok")),
        *(OPTIONS_OF_TOY_MODEL if toy else ()),
        *("--training.seed", str(seed), "--training.save-every", "0"),
    ]
    return Part(run.name, command, 60 * benchmark.minutes, run / "results.json")


def run_stage(parts: Sequence[Part], output: Path, deadline: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the parts at the same time. When one ends, yield its name and its status, seconds, command and record.

    deadline: time.monotonic() at which all parts are stopped.
    """
    began = time.monotonic()
    running = [(part, _start(part, output)) for part in parts]
    try:
        while running:
            time.sleep(0.05)
            seconds = time.monotonic() - began
            for part, process in list(running):
                status = process.poll()
                is_late = seconds > part.seconds or time.monotonic() > deadline
                if status is None and not is_late:
                    continue
                if status is None:
                    _stop(process)
                running.remove((part, process))
                words = {None: "time limit", 0: "done"}.get(status, f"failed with status {status}")
                record = part.record and part.record.exists() and json.loads(part.record.read_text(encoding="utf-8"))
                outcome = {"status": words, "seconds": round(seconds, 1), "command": list(part.command)}
                yield part.name, outcome | ({"record": record} if record else {})
    finally:
        for _, process in running:
            _stop(process)


def _start(part: Part, output: Path) -> subprocess.Popen[bytes]:
    """Start a part in a process group of its own, with its output in a log file."""
    with (output / f"{part.name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *part.command],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT, **part.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all processes that it started."""
    for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def summarize(parts: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a Markdown table of everything that was measured."""
    yield "| part | measurement | value |"
    yield "|---|---|---|"
    medians: dict[str, float] = {}
    for name, part in parts.items():
        record = part.get("record", {})
        if part["status"] != "done":
            yield f"| {name} | | {part['status']} |"
        for measurement, value in record.get("measured", {}).items():
            yield f"| {name} | {measurement} | {Spread(**value)} |"
            medians[measurement] = value["median"]
        for kind, counts in record.get("counts", {}).items():
            yield f"| {name} | {kind} | {', '.join(f'{count} {word}' for word, count in counts.items())} |"
        for kind in [key for key in record if key.startswith("differences")]:
            yield f"| {name} | {kind} | {', '.join(record[kind]) or 'none'} |"
        for metric, score in (record.get("scores") or {}).items():
            yield f"| {name} | {metric} | {score['value']:.2f} |"
        if "target_tokens_per_second" in record:
            yield f"| {name} | target tokens per second | {record['target_tokens_per_second']:,.0f} |"
            yield f"| {name} | wall seconds | {record['wall_seconds']:,.0f} |"
    for measurement, median in medians.items():
        for rival in RIVALS:
            other = medians.get(measurement.replace("transformer_jax", rival))
            if "transformer_jax" in measurement and other:
                yield f"| ratio to {rival} | {measurement} | {median / other:.2f} |"


def write_texts(benchmark: GpuBenchmark) -> None:
    """Write the sentences to translate, and the pairs of the suite ``toy``."""
    if benchmark.suite == "toy":
        toy_pairs = islice(open_pairs("phrasebook", "en", "de", "train"), 211)
        write_lines(benchmark.output / TOY_PAIRS, ["\t".join(pair) for pair in toy_pairs])
    pairs = open_pairs(benchmark.locators()["--data.train"], "en", "de", "train")
    write_lines(benchmark.output / "source.en", [pair.source for pair in islice(pairs, 4096)])


def main() -> None:
    """Run all parts that are not done, and print a table."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # Then running parts are also stopped.
    benchmark = tyro.cli(GpuBenchmark)
    benchmark = dataclasses.replace(
        benchmark, output=benchmark.output.absolute(), data=benchmark.data and benchmark.data.absolute()
    )
    output, path = benchmark.output, benchmark.output / "gpu.json"
    output.mkdir(parents=True, exist_ok=True)
    parts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_texts(benchmark)
    for stage_name, stage in make_stages(benchmark).items():
        waiting = [part for part in stage if parts.get(part.name, {}).get("status") != "done"]
        deadline = began + 60 * benchmark.minutes
        if waiting and time.monotonic() < deadline:
            if stage_name == "start":  # Its first start must find no run.
                shutil.rmtree(output / "model", ignore_errors=True)
            for name, outcome in run_stage(waiting, output, deadline):
                print(f"{name}: {outcome['status']} after {outcome['seconds']:.0f} s", flush=True)
                parts[name] = outcome
                atomic.write_text(path, json.dumps(parts, indent=2) + "\n")
    table = "\n".join(summarize(parts)) + "\n"
    atomic.write_text(output / "gpu.md", table)
    print(table)
    sys.exit(0 if all(part["status"] == "done" for part in parts.values()) else 1)


if __name__ == "__main__":
    main()
