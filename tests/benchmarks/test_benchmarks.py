"""Every benchmark runs once at a toy size."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny_run import SOURCES, make_run

from benchmarks import decoding, training
from benchmarks.record import read_baseline
from transformer_jax.config import ModelConfig
from transformer_jax.data.batches import Batch
from transformer_jax.decoding.translator import Translator
from transformer_jax.training.loss import smoothed_cross_entropy

ROOT = Path(__file__).parent.parent.parent


def test_training_is_compared_with_pytorch(tmp_path):
    pytest.importorskip("torch", reason="pip install -r requirements-parity.txt")
    command = [sys.executable, "-m", "benchmarks.training", "--suite", "toy", "--repeats", "1"]
    first = tmp_path / "first.json"
    subprocess.run([*command, "--output", str(first)], cwd=ROOT, check=True)
    measured = json.loads(first.read_text())["measured"]
    systems = "transformer_jax", "PyTorch"
    parts = (*systems, "ratio", "GFLOP/s of a large product")
    parts += tuple(f"{system}: share of the product" for system in systems)
    parts += tuple(f"{system}: hours for 100,000 steps of 25,000" for system in systems)
    assert measured.keys() == {f"toy, {part}" for part in parts}
    assert all(value["median"] > 0 for value in measured.values())
    command += ["--systems", "transformer_jax", "--against", str(first)]
    again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert again.stdout.count("since the baseline") == 4


def test_training_without_repeats_measures_nothing(monkeypatch):
    monkeypatch.setattr(training, "measure_in_turn", lambda systems, repeats: {name: [] for name in systems})
    assert training.measure(training.TrainingBenchmark("toy", repeats=0), "toy") == {}


@pytest.mark.parametrize("content", [None, "{", "[]", '{"unit": "s"}'])
def test_unreadable_baseline_is_refused_before_measuring(content, tmp_path):
    path = tmp_path / "before.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=rf"^error: .*{path}"):
        read_baseline(None, path)
    with pytest.raises(
        SystemExit, match=r"^error: the directory .*/missing does not exist\. Run: mkdir -p .*/missing$"
    ):
        read_baseline(tmp_path / "missing/after.json", None)


def test_start_up_is_measured(tmp_path):
    output = tmp_path / "startup.json"
    command = [sys.executable, "-m", "benchmarks.startup", "--pairs", "101", "--repeats", "1", "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True)
    measured = json.loads(output.read_text())["measured"]
    starts = ("first", "later, buckets", "later, packed")
    parts = ("start", "plan", "batch", "MiB")
    assert measured.keys() == {f"101 pairs, {start}: {part}" for start in starts for part in parts}
    assert all(value["median"] > 0 for value in measured.values())


def test_time_to_the_first_update_is_measured(tmp_path):
    (tmp_path / "text.tsv").write_text("a b\tc d\nb c d\ta\n" * 3)
    (tmp_path / "recipe.py").write_text(f"""
from transformer_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig
text = {str(tmp_path / "text.tsv")!r}
config = Config(
    model=ModelConfig(8, 16, 2, 1, 1),
    data=DataConfig(text, text, text, batch_tokens=64, max_length=16),
    tokenizer=TokenizerConfig(kind="word", size=20),
)
""")
    output = tmp_path / "first_update.json"
    command = [sys.executable, "-m", "benchmarks.first_update", "--recipe", str(tmp_path / "recipe.py")]
    subprocess.run([*command, "--output", str(output)], cwd=ROOT, check=True)
    measured = {name: value["median"] for name, value in json.loads(output.read_text())["measured"].items()}
    for start in ("first start", "second start"):
        parts = {name.partition(": ")[2]: value for name, value in measured.items() if name.startswith(start)}
        before = list(parts)[: list(parts).index("first step") + 1]
        assert parts["first update"] == pytest.approx(sum(parts[part] for part in before))
        assert all(value > 0 for value in parts.values())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")


def test_decoding_is_compared_with_both_peers(run, tmp_path):
    for peer in ("ctranslate2", "transformers"):
        pytest.importorskip(peer, reason="pip install -r requirements-parity.txt")
    source, output = tmp_path / "source.en", tmp_path / "output.json"
    source.write_text("\n".join(SOURCES) + "\n")
    files = ["--workdir", str(run), "--source", str(source), "--output", str(output)]
    command = [sys.executable, "-m", "benchmarks.decoding", *files, "--repeats", "1", "--singles", "2"]
    subprocess.run(command, cwd=ROOT, check=True)
    measured = json.loads(output.read_text())["measured"]
    assert len(measured) == 2 * 3 * 3
    assert all(value["median"] > 0 for value in measured.values())


def test_fewer_slots_decode_fewer_sentences(run, tmp_path, monkeypatch):
    source = tmp_path / "source.en"
    source.write_text("\n".join(SOURCES) + "\n")
    calls = []

    def search_in_slots(model, params, sources, special_ids, beam, slots):
        calls.append((len(sources), beam, slots, model.config.dtype))
        return [[5]] * len(sources)

    monkeypatch.setattr(decoding, "search_in_slots", search_in_slots)
    benchmark = decoding.DecodingBenchmark(
        run, source, ("transformer_jax",), "bfloat16", slots=(3, 9), sentences=11, singles=1
    )
    runner = decoding.DecodingRunner(benchmark, "transformer_jax")
    assert sorted(calls) == [(1, 1, 1, "bfloat16"), (1, 4, 1, "bfloat16")] + [
        (sentences, beam, slots, "bfloat16") for sentences, slots in ((3, 3), (11, 9)) for beam in (1, 4)
    ]
    results = runner()
    assert results["greedy, 9 slots, tokens"] == 11
    assert results["beam 4, 3 slots, tokens"] == 3


def test_export_translations_are_compared(run, tmp_path):
    pytest.importorskip("ctranslate2", reason="pip install -r requirements-parity.txt")
    source, output = tmp_path / "source.en", tmp_path / "output.json"
    source.write_text("\n".join(SOURCES) + "\n")
    files = ["--workdir", str(run), "--source", str(source), "--reference", str(source), "--output", str(output)]
    command = [sys.executable, "-m", "benchmarks.serving", *files]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    measured = json.loads(output.read_text())["measured"]
    assert printed.count("\n") == 2 + len(measured) == 2 + 2 * 4
    greedy = measured[0]
    assert (greedy["beam"], greedy["stored"]) == (1, "float32")
    assert all(0 <= row["same"] <= 1 and row["MB"] > 0 for row in measured)


@pytest.mark.parametrize("peer", ["ctranslate2", "hugging_face"])
def test_peers_decode_the_same_model(run, peer):
    package = "transformers" if peer == "hugging_face" else peer
    pytest.importorskip(package, reason="pip install -r requirements-parity.txt")
    translator = Translator.load(run)
    eos = translator.tokenizers.source.eos_id
    sources = sorted(([*ids, eos] for ids in translator.tokenizers.source.encode(SOURCES[:4])), key=len)
    ours = decoding.ours(translator, 1, "float32")(sources, 1, 64)
    theirs = getattr(decoding, peer)(translator, 1, "float32")(sources, 1, 64)
    # With random weights few translations end before the length limit, which is lower per sentence in this package.
    assert [their_ids[: len(our_ids)] for our_ids, their_ids in zip(ours, theirs, strict=True)] == ours


def test_growth_of_a_step_is_measured(tmp_path):
    files = ["--output", str(tmp_path / "growth.json"), "--picture", str(tmp_path / "growth.png")]
    command = [sys.executable, "-m", "benchmarks.growth", "--suite", "toy", "--repeats", "1", *files]
    subprocess.run(command, cwd=ROOT, check=True)
    measured = json.loads((tmp_path / "growth.json").read_text())["measured"]
    assert measured["vocabulary 200, MiB"]["median"] > measured["vocabulary 100, MiB"]["median"] > 0
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_pytorch_loop_computes_the_same_loss():
    torch = pytest.importorskip("torch", reason="pip install -r requirements-parity.txt")
    from benchmarks.peers.torch_loop import ChunkedLoss, whole_loss

    random = np.random.default_rng(0)
    features, table = random.normal(size=(7, 83, 5)).astype("f4"), random.normal(size=(11, 5)).astype("f4")
    targets = random.integers(0, 11, (7, 83))

    def total(features, table):
        one_pass = features[:, :, None]
        return smoothed_cross_entropy(one_pass, table, jnp.asarray(targets), jnp.ones((7, 83)), 0.1, 97).loss

    leaves = [torch.tensor(x, requires_grad=True) for x in (features, table)]
    loss = ChunkedLoss.apply(leaves[0].flatten(0, 1), leaves[1], torch.tensor(targets).flatten(), 0.1)
    loss.backward()
    expected, gradients = jax.value_and_grad(total, argnums=(0, 1))(jnp.asarray(features), jnp.asarray(table))
    assert_allclose(loss.item(), expected, rtol=1e-5)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        assert_allclose(leaf.grad.numpy(), gradient, atol=1e-4)
    whole = whole_loss(leaves[0].flatten(0, 1), leaves[1], torch.tensor(targets).flatten(), 0.1)
    assert_allclose(whole.item(), expected, rtol=1e-5)


def test_pytorch_loops_for_cpu_and_gpu_compute_the_same_loss(monkeypatch):
    torch = pytest.importorskip("torch", reason="pip install -r requirements-parity.txt")
    from benchmarks.peers.torch_loop import TorchTraining

    # The compiler takes a minute on a CPU and does not change the result.
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    random = np.random.default_rng(0)
    ids, lengths = random.integers(4, 31, (2, 7, 13)), random.integers(5, 14, (2, 7))
    segments = np.arange(13) < lengths[..., None]
    source, target = ids * segments
    source_segments, target_segments = segments.astype("i4")
    batch = Batch(source, source_segments, source_segments, target, target, target_segments, target_segments)
    config = ModelConfig(8, 12, 2, 2, 2, dropout=0.0)
    losses = [
        [float(training.step(batch)) for _ in range(3)]
        for training in (TorchTraining(config, 31, 13, compiles=compiles) for compiles in (False, True))
    ]
    assert_allclose(*losses, rtol=1e-5)
    assert losses[0][0] > losses[0][2]
