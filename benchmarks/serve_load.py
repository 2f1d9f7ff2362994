"""Latency of the HTTP server: requests arrive at random, and a tenth of them is a paragraph.

    python -m benchmarks.serve_load --workdir runs/phrasebook --output load.json
    python -m benchmarks.serve_load --workdir runs/phrasebook --checkouts ../before .

Arrivals are a Poisson process with the same times and texts for every checkout. The checkouts are measured in turn.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import tyro

from benchmarks.record import machine
from transformer_jax.data.sources import open_pairs
from transformer_jax.storage import atomic

PARAGRAPH = 10
"""Number of sentences in a paragraph. Every tenth request is one on average."""
CLIENTS = 200
"""Maximum number of requests at a time."""


@dataclass(frozen=True)
class ServeLoadBenchmark:
    """Measure the latency of the HTTP server for several rates of arrivals."""

    workdir: Path
    """Run directory of a phrasebook model."""
    rates: tuple[float, ...] = (5, 20, 60)
    """Requests per second."""
    seconds: float = 20.0
    """Duration of one measurement."""
    repeats: int = 3
    """Measurements per rate and checkout."""
    checkouts: tuple[Path, ...] = (Path(),)
    """Checkouts whose servers are compared."""
    beam: int | None = None
    """Beam size. Default: that of the run."""
    output: Path | None = None
    """JSON file for the measurements."""


class Arrival(NamedTuple):
    """A request: the time of its arrival in seconds, its kind and its text."""

    seconds: float
    kind: str
    text: str


def draw_arrivals(rate: float, seconds: float, sentences: Sequence[str], seed: int) -> list[Arrival]:
    """Draw the arrivals of one measurement."""
    generator, arrivals = random.Random(seed), []
    now = generator.expovariate(rate)
    while now < seconds:
        if generator.random() < 0.1:
            arrivals.append(Arrival(now, "paragraph", " ".join(generator.sample(sentences, PARAGRAPH))))
        else:
            arrivals.append(Arrival(now, "sentence", generator.choice(sentences)))
        now += generator.expovariate(rate)
    return arrivals


@contextmanager
def running_server(checkout: Path, workdir: Path, beam: int | None) -> Iterator[str]:
    """Start the server of a checkout, and yield its host and port."""
    command = [sys.executable, "-m", "transformer_jax", "serve", "--workdir", str(workdir.resolve()), "--port", "0"]
    command += [] if beam is None else ["--beam", str(beam)]
    with subprocess.Popen(command, cwd=checkout, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            url = next(word for line in process.stderr for word in line.split() if word.startswith("http://"))
            yield urlsplit(url).netloc
        finally:
            process.terminate()


def measure_latencies(address: str, arrivals: Sequence[Arrival]) -> list[tuple[str, float]]:
    """Send the requests at their times. Return the kind of each and the milliseconds from its arrival to its answer."""
    start = time.perf_counter()

    def send(arrival: Arrival) -> tuple[str, float]:
        connection = http.client.HTTPConnection(address, timeout=600)
        connection.request("POST", "/translate", json.dumps({"text": arrival.text}))
        response = connection.getresponse()
        response.read()
        connection.close()
        assert response.status == 200, response.status
        return arrival.kind, 1000 * (time.perf_counter() - start - arrival.seconds)

    with ThreadPoolExecutor(CLIENTS) as clients:
        futures = []
        for arrival in arrivals:
            time.sleep(max(0.0, start + arrival.seconds - time.perf_counter()))
            futures.append(clients.submit(send, arrival))
        return [future.result() for future in futures]


def measure(benchmark: ServeLoadBenchmark) -> list[dict[str, Any]]:
    """Return one row per checkout, rate and kind of request."""
    pairs = open_pairs("phrasebook", "en", "de", "test")
    sentences = [pair.source for pair in islice(pairs, 1000)]
    rows = []
    with ExitStack() as stack:
        addresses = [
            stack.enter_context(running_server(checkout, benchmark.workdir, benchmark.beam))
            for checkout in benchmark.checkouts
        ]
        for address in addresses:  # Compile the programs of all lengths and numbers of sentences.
            for rate in benchmark.rates:
                measure_latencies(address, draw_arrivals(rate, 5, sentences, 0))
        for rate in benchmark.rates:
            latencies: list[list[tuple[str, float]]] = [[] for _ in addresses]
            for repeat in range(benchmark.repeats):
                arrivals = draw_arrivals(rate, benchmark.seconds, sentences, 1 + repeat)
                for address, measured in zip(addresses, latencies, strict=True):
                    measured += measure_latencies(address, arrivals)
            for checkout, measured in zip(benchmark.checkouts, latencies, strict=True):
                for kind in ("sentence", "paragraph"):
                    values = [value for other, value in measured if other == kind]
                    row = {"checkout": str(checkout), "rate": rate, "kind": kind, **percentiles(values)}
                    print(row, flush=True)
                    rows.append(row)
    return rows


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return the number of requests, and the median and 95th percentile of their latencies."""
    return {
        "requests": len(milliseconds),
        "median": round(statistics.median(milliseconds), 1),
        "p95": round(statistics.quantiles(milliseconds, n=20, method="inclusive")[-1], 1),
    }


def main() -> None:
    """Measure, print the table and write the record."""
    benchmark = tyro.cli(ServeLoadBenchmark)
    rows = measure(benchmark)
    print("\n| requests/s | request | checkout | median | 95th percentile |")
    print("|---" * 5 + "|")
    for row in sorted(rows, key=lambda row: (row["rate"], row["kind"] != "sentence")):
        print(f"| {row['rate']:g} | {row['kind']} | {row['checkout']} | {row['median']} ms | {row['p95']} ms |")
    if benchmark.output:
        atomic.write_text(
            benchmark.output, json.dumps({"unit": "ms", "measured": rows, "machine": machine()}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
