"""The GPU benchmarks: stages with time limits, starts of training, kills, and search on two devices."""

import json
import math
import shutil
import sys
import time
from contextlib import closing

import pytest
from tiny_run import SOURCES, make_run

from benchmarks import gpu, resume, same_search, training_start
from benchmarks.gpu import GpuBenchmark, Part

FAKE_TRAINING = """
import json, sys, time
from pathlib import Path
workdir = Path(sys.argv[sys.argv.index("--workdir") + 1])
workdir.mkdir(exist_ok=True)
for step in range(1, 60):
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step}) + "\\n")
if "--hang" in sys.argv:
    time.sleep(60)
sys.exit(3 if "--fail" in sys.argv else 0)
"""


@pytest.fixture
def fake_training(tmp_path, monkeypatch):
    """Replace train.py by a script that reports 59 updates at once."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE_TRAINING)
    for module in (training_start, resume):
        monkeypatch.setattr(module, "TRAIN", script)


def python(name, code, seconds=60.0, record=None):
    return Part(name, ["-c", code], seconds, record)


def changes(path):
    """Return whether a running program writes the file."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    time.sleep(0.3)
    return path.exists() and path.stat().st_mtime_ns != before


def test_every_end_of_a_part_is_recorded(tmp_path):
    record = tmp_path / "good.json"
    write = f"import json; json.dump({{'measured': {{}}}}, open({str(record)!r}, 'w'))"
    parts = [python("good", write, record=record), python("bad", "raise SystemExit(7)")]
    parts.append(python("slow", "import time; time.sleep(60)", seconds=0.5))
    outcomes = dict(gpu.run_stage(parts, tmp_path, time.monotonic() + 60))
    assert {name: outcome["status"] for name, outcome in outcomes.items()} == {
        "good": "done",
        "bad": "failed with status 7",
        "slow": "time limit",
    }
    assert outcomes["good"]["record"] == {"measured": {}}
    assert "record" not in outcomes["slow"]


def test_the_deadline_also_stops_programs_that_a_part_started(tmp_path):
    beat = tmp_path / "beat"
    child = f"import time\nwhile True: open({str(beat)!r}, 'w').write(str(time.time())); time.sleep(0.01)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    outcomes = dict(gpu.run_stage([python("parent", code)], tmp_path, time.monotonic() + 3))
    assert outcomes["parent"]["status"] == "time limit"
    assert not changes(beat)


def test_an_end_of_the_command_stops_its_parts(tmp_path):
    beat = tmp_path / "beat"
    write = f"import time\nwhile True: open({str(beat)!r}, 'w').write(str(time.time())); time.sleep(0.01)"
    with closing(gpu.run_stage([python("endless", write), python("short", "")], tmp_path, math.inf)) as outcomes:
        assert next(outcomes)[0] == "short"
    assert not changes(beat)


def test_a_later_call_runs_only_unfinished_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(tmp_path), "--suite", "toy"])
    count = f"open({str(tmp_path / 'calls')!r}, 'a').write"
    good, bad = python("good", f"{count}('good ')"), python("bad", f"{count}('bad '); raise SystemExit(1)")
    monkeypatch.setattr(gpu, "make_stages", lambda _: {"first": [good], "second": [bad]})
    for _ in range(2):
        with pytest.raises(SystemExit, match="1"):
            gpu.main()
    assert (tmp_path / "calls").read_text() == "good bad bad "
    assert "| bad | | failed with status 1 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu.json").read_text())["good"]["status"] == "done"


def test_table_has_scores_counts_and_ratios():
    spread = {"least": 1.0, "most": 9.0, "repeats": 3}
    records = {
        "ours": {"measured": {"BASE, transformer_jax": {"median": 6.0, **spread}}},
        "theirs": {"measured": {"BASE, PyTorch": {"median": 4.0, **spread}}},
        "same-search": {"counts": {"greedy": {"same": 5, "ties": 2}}},
        "resume": {"differences of the killed run": ["metrics.jsonl"]},
        "seed-0": {"scores": {"BLEU": {"value": 41.237}}, "target_tokens_per_second": 1234.5, "wall_seconds": 99.6},
    }
    table = list(gpu.summarize({name: {"status": "done", "record": record} for name, record in records.items()}))
    for row in (
        "| ours | BASE, transformer_jax | 6 (1 to 9) |",
        "| same-search | greedy | 5 same, 2 ties |",
        "| resume | differences of the killed run | metrics.jsonl |",
        "| seed-0 | BLEU | 41.24 |",
        "| seed-0 | wall seconds | 100 |",
        "| ratio to PyTorch | BASE, transformer_jax | 1.50 |",
    ):
        assert row in table


@pytest.mark.parametrize("suite", ["gpu", "toy"])
@pytest.mark.parametrize("has_data", [True, False])
def test_options_of_all_trainings_are_valid(suite, has_data, tmp_path):
    from transformer_jax.commands.train import parse_train

    benchmark = GpuBenchmark(tmp_path, tmp_path / "data" if has_data else None, suite)
    stages = gpu.make_stages(benchmark)
    [start] = stages["start"]
    trainings = [start.command[start.command.index("--") + 1 :], *(part.command[1:] for part in stages["seeds"])]
    for number, options in enumerate(trainings):
        config = parse_train(options).config
        uses_data = has_data and suite == "gpu"
        assert ("multi30k" in config.data.test) == uses_data
        assert config.model.norm == ("pre" if number else "post")  # Hugging Face decodes only post-norm models.


def test_updates_of_a_start_are_timed(fake_training, tmp_path):
    seconds = training_start.time_start(tmp_path / "run", [], {}, to_end=True)
    assert list(seconds) == ["update 1", "update 10", "update 50", "end, with scores"]
    assert sorted(seconds.values()) == list(seconds.values())
    hanging = training_start.time_start(tmp_path / "other", ["--hang"], {}, to_end=False)
    assert list(hanging) == ["update 1", "update 10", "update 50"]
    with pytest.raises(SystemExit, match=r"^error: train\.py failed with status 3\.$"):
        training_start.time_start(tmp_path / "failed", ["--fail"], {}, to_end=True)


def test_a_run_is_killed_after_an_update(fake_training, tmp_path):
    began = time.monotonic()
    resume.train(tmp_path / "run", ["--hang"], kill_at=31)
    assert time.monotonic() - began < 30
    assert resume.reported_updates(tmp_path / "run") >= 31
    with pytest.raises(SystemExit, match=r"^error: train\.py ended before update 61 with status 0\.$"):
        resume.train(tmp_path / "other", [], kill_at=61)


@pytest.fixture
def two_runs(tmp_path):
    """Directories of two runs with the same files."""
    first = make_run(tmp_path / "first")
    (first / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5, "tokens_per_second": 100}\n')
    for name in resume.FILES:
        (first / name).write_text("text\n")
    return first, shutil.copytree(first, tmp_path / "second")


def test_differences_of_two_runs_are_named(two_runs, tmp_path):
    first, second = two_runs
    (second / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5, "tokens_per_second": 90}\n')
    assert resume.find_differences(second, first) == []
    (second / "metrics.jsonl").write_text('{"step": 1, "loss": 2.6, "tokens_per_second": 90}\n')
    (second / "test.hyp.txt").write_text("other\n")
    assert resume.find_differences(second, first) == ["test.hyp.txt", "metrics.jsonl"]
    other = make_run(tmp_path / "other", seed=1)
    shutil.rmtree(second / "checkpoints")
    shutil.copytree(other / "checkpoints", second / "checkpoints")
    assert any("['params']" in name for name in resume.find_differences(second, first)[2:])


def test_other_translations_are_counted(tmp_path, monkeypatch):
    source = tmp_path / "source.en"
    source.write_text("\n".join(SOURCES[:4]) + "\n")
    benchmark = same_search.SameSearchBenchmark(make_run(tmp_path / "run"), source)
    model = same_search.SearchModel(benchmark)
    translations = model.translate()
    same = {"same": 4, "ties": 0, "different": 0}
    assert same_search.count(benchmark, {"a": translations}) == {"greedy, a": same, "beam 4, a": same}
    for found in translations.values():
        first = found[0]
        first[1:2] = [first[1] + 1]
    different = {"same": 3, "ties": 0, "different": 1}
    assert same_search.count(benchmark, {"a": translations}) == {"greedy, a": different, "beam 4, a": different}
    monkeypatch.setattr(same_search, "TIE", 1e6)
    tied = {"same": 3, "ties": 1, "different": 0}
    assert same_search.count(benchmark, {"a": translations}) == {"greedy, a": tied, "beam 4, a": tied}
