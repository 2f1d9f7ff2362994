"""Recipes describe models that can be built. Options change them, and an invalid option is one clear error line."""

import ast
import dataclasses
import itertools
import math
import re
import shutil
from functools import partial
from pathlib import Path

import jax
import pytest
from tiny_run import TINY_CONFIG

from transformer_jax.commands.recipe import RECIPE_DIRECTORY, find_recipe, load_recipe
from transformer_jax.commands.run_facts import code_version, run_facts
from transformer_jax.commands.train import main, parse_train
from transformer_jax.config import Config, load_config, save_config
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.runtime import distributed
from transformer_jax.training.optimizer import make_optimizer
from transformer_jax.training.state import initial_state

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "configs").glob("*.py"))
EVERY_RECIPE = pytest.mark.parametrize("recipe", FILES, ids=lambda path: path.stem)


def state_shapes(config):
    """Return the shapes of the training state, with the largest vocabularies that the config allows."""
    model = Transformer(config.model, config.tokenizer.size, config.tokenizer.size)
    optimizer = make_optimizer(config.optimizer, config.model.d_model, config.training.steps)
    training = config.training
    return jax.eval_shape(partial(initial_state, model, optimizer, training.seed, bool(training.ema)))


def parameter_count(config):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state_shapes(config).params))


# Recipes


def test_every_promised_recipe_exists():
    promised = {"phrasebook", "multi30k", "tatoeba", "opus_books", "wmt14_base", "wmt14_big"}
    assert promised <= {path.stem for path in FILES}


@EVERY_RECIPE
def test_recipe_loads_and_has_a_docstring(recipe):
    assert isinstance(load_recipe(recipe), Config)
    assert ast.get_docstring(ast.parse(recipe.read_text()))


@EVERY_RECIPE
def test_training_state_of_a_recipe_can_be_built(recipe):
    config = load_recipe(recipe)
    shapes = state_shapes(config)
    assert (shapes.average is None) == (config.training.ema == 0)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(shapes.params)} == {"float32"}


@EVERY_RECIPE
def test_recipe_is_unchanged_by_saving_and_loading(recipe, tmp_path):
    config = load_recipe(recipe)
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config


@pytest.mark.parametrize(("name", "millions"), [("wmt14_base", 65), ("wmt14_big", 213)])
def test_models_of_the_paper_have_its_parameter_count(name, millions):
    # Vaswani et al. 2017, table 3, which rounds and has a slightly different vocabulary.
    assert parameter_count(load_recipe(ROOT / "configs" / f"{name}.py")) == pytest.approx(millions * 1e6, rel=0.04)


# Options


def test_phrasebook_is_the_default_recipe():
    command = parse_train([])
    assert command.config == load_recipe(ROOT / "configs" / "phrasebook.py")
    assert command.workdir == Path("runs/phrasebook")


def test_default_workdir_has_the_name_of_the_recipe():
    command = parse_train(["--config", str(ROOT / "configs" / "tatoeba.py")])
    assert command.config == load_recipe(ROOT / "configs" / "tatoeba.py")
    assert command.workdir == Path("runs/tatoeba")
    assert parse_train(["--workdir", "elsewhere"]).workdir == Path("elsewhere")


def test_options_change_their_fields_and_no_others():
    recipe = load_recipe(ROOT / "configs" / "phrasebook.py")
    changed = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, d_model=96, norm="pre"),
        data=dataclasses.replace(recipe.data, source="de", target="en", train="text/train.{lang}.gz"),
        training=dataclasses.replace(recipe.training, steps=7),
    )
    given = {"model.d-model": "96", "model.norm": "pre", "training.steps": "7"}
    given |= {"data.source": "de", "data.target": "en", "data.train": "text/train.{lang}.gz"}
    arguments = [word for name, value in given.items() for word in (f"--{name}", value)]
    assert parse_train(arguments).config == changed


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--model.d-modle", "96"], "Did you mean --model.d-model?"),
        (["--model.heads", "many"], "--model.heads"),
        (["--model.norm", "between"], "--model.norm"),
        (["--model.heads", "3"], "model.heads 3 does not divide model.d_model"),
        (["--tokenizer.vocabulary", "separate"], "--model.share-embeddings target"),
        (["--optimizer.factor", "nan"], "optimizer.factor is nan"),
        (["--optimizer.epsilon", "0"], "optimizer.epsilon is 0"),
        (["--optimizer.beta2", "1"], "optimizer.beta2 is 1"),
        (["--optimizer.clip-norm", "-1"], "optimizer.clip_norm is -1"),
        (["--training.seed", "-1"], "training.seed is -1"),
        (["--training.seed", str(2**32)], "from 0 to 4294967295"),
        (["--training.save-every", "-5"], "training.save_every is -5"),
        (["--training.patience", "-1"], "training.patience is -1"),
        (["--model.norm-epsilon", "nan"], "model.norm_epsilon is nan"),
        (["--training.r-drop", "-1"], "training.r_drop is -1"),
        (["--training.r-drop", "nan"], "training.r_drop is nan"),
        (["--training.r-drop", "4", "--model.dropout", "0"], "training.r_drop is 4.0 but model.dropout is 0"),
        (["--decoding.length-penalty", "20"], "decoding.length_penalty is 20"),
        (["--config"], "--config"),
        (["surplus"], "surplus"),
    ],
)
def test_wrong_option_is_one_line_that_names_it(arguments, fragment):
    with pytest.raises(InputError) as error:
        parse_train(arguments)
    assert fragment in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_recipe_error_lists_the_known_recipes():
    with pytest.raises(InputError, match=r"nothing\.py does not exist\. .*multi30k, .*phrasebook"):
        parse_train(["--config", str(ROOT / "configs" / "nothing.py")])


@pytest.mark.parametrize("name", ["multi30k", "multi30k.py"])
def test_recipe_is_found_by_name_in_any_directory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = parse_train(["--config", name])
    assert command.config == load_recipe(ROOT / "configs" / "multi30k.py")
    assert command.workdir == Path("runs/multi30k")


@pytest.mark.parametrize("name", ["multi3k", "configs/multi30k.py", "/no/such/directory/multi30k.py"])
def test_misspelt_recipe_error_suggests_the_nearest(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"Did you mean --config multi30k\?$"):
        parse_train(["--config", name])


def test_local_file_takes_precedence_over_a_recipe_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "multi30k").write_text(
        "from transformer_jax.config import Config, DataConfig\nconfig = Config(data=DataConfig(max_length=29))\n"
    )
    assert parse_train(["--config", "multi30k"]).config.data.max_length == 29
    assert find_recipe("multi30k.py") == RECIPE_DIRECTORY / "multi30k.py"


@pytest.mark.parametrize("content", ["", "settings = 1\n", "config = 'phrasebook'\n"])
def test_recipe_must_set_a_config(content, tmp_path):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(InputError, match="does not define `config`"):
        parse_train(["--config", str(tmp_path / "mine.py")])


@pytest.mark.parametrize(
    "line",
    [
        "config = (",
        "import nothing_of_the_kind",
        "from transformer_jax.config import Config, ModelConfig\nconfig = Config(model=ModelConfig(width=1))",
    ],
)
def test_error_in_a_recipe_names_its_file(line, tmp_path):
    (tmp_path / "mine.py").write_text(line + "\n")
    with pytest.raises(InputError, match=r"mine\.py fails: "):
        parse_train(["--config", str(tmp_path / "mine.py")])


def test_fresh_refuses_a_run_and_suggests_an_unused_path(tmp_path, monkeypatch):
    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
    assert parse_train(["--fresh", "--workdir", str(tmp_path / "run")]).fresh  # An empty directory is not a run.
    (tmp_path / "run" / "config.json").touch()
    monkeypatch.chdir(tmp_path / "run")
    with pytest.raises(InputError, match=re.escape(f"--workdir {tmp_path / 'run-3'}")):
        parse_train(["--fresh", "--workdir", "."])
    with pytest.raises(InputError, match=re.escape(f"--workdir {tmp_path / 'run-3'}")):
        parse_train(["--fresh", "--workdir", str(tmp_path / "run")])
    assert parse_train(["--workdir", str(tmp_path / "run")]).workdir == tmp_path / "run"


def documented_fields():
    """Yield the option and the first words of the description of every setting, read from the source of config.py."""
    classes = {
        node.name: node
        for node in ast.parse((ROOT / "transformer_jax" / "config.py").read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    for section in dataclasses.fields(Config):
        body = classes[section.default_factory.__name__].body
        for field, sentence in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign):
                option = f"--{section.name}.{field.target.id.replace('_', '-')}"
                yield option, sentence.value.value.split()[:3]


def test_help_lists_every_setting_and_its_description(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        parse_train(["--config", str(ROOT / "configs" / "tatoeba.py"), "--help"])
    assert end.value.code == 0
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    fields = list(documented_fields())
    assert len(fields) > 30
    for option, words in fields:
        assert option in shown
        assert " ".join(words) in shown
    assert "(default: 192)" in shown  # The d_model of the recipe, not of the paper.


def test_training_init_takes_the_model_of_that_run(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--model.dropout", "0.3", "--model.attention", "cudnn"]
    config = parse_train(["--training.init", str(tiny_run), *options]).config
    assert config.model == dataclasses.replace(TINY_CONFIG.model, dropout=0.3, attention="cudnn")
    assert config.tokenizer == TINY_CONFIG.tokenizer
    assert config.data == load_recipe(find_recipe("phrasebook")).data
    assert config.training.init == str(tiny_run)


def test_resumed_run_does_not_need_its_initial_run(tiny_run, tmp_path):
    workdir = shutil.copytree(tiny_run, tmp_path / "resumed")
    config = parse_train(["--training.init", "gone", "--workdir", str(workdir)]).config
    assert (config.model, config.tokenizer, config.training.init) == (TINY_CONFIG.model, TINY_CONFIG.tokenizer, "gone")


def test_training_init_refuses_options_of_another_model(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"d-model is 16, .* trained with 14\. Remove .* or set --model\.d-model 14\.$"
    ):
        parse_train(["--training.init", str(tiny_run), "--model.d-model", "16"])
    with pytest.raises(InputError, match="is not a run directory"):
        parse_train([f"--training.init={tmp_path}"])


# Several processes


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--training.steps", "0"], "training.steps is 0"), (["--dry-run"], "Remove --distributed")],
)
def test_invalid_arguments_are_reported_to_the_other_processes(options, message, monkeypatch, tmp_path):
    for name, value in (("COORDINATOR_ADDRESS", "host:1"), ("NUM_PROCESSES", "2"), ("PROCESS_ID", "1")):
        monkeypatch.setenv(f"JAX_{name}", value)
    reports = []
    monkeypatch.setattr(distributed, "report_failure", lambda *report: reports.append(report))
    with pytest.raises(InputError, match=message):
        main(["--distributed", "--workdir", str(tmp_path), *options])
    [(member, reason)] = reports
    assert member == ("host:1", 2, 1)
    assert message in reason


def test_paths_and_locators_may_differ_between_processes():
    config = Config()
    data = dataclasses.replace(config.data, train="a.tsv", valid="b.tsv", test="c.tsv")
    training = dataclasses.replace(config.training, init="runs/a")
    assert run_facts(config, False) == run_facts(dataclasses.replace(config, data=data, training=training), False)


def test_code_version_covers_the_sources(monkeypatch, tmp_path):
    package = shutil.copytree(ROOT / "transformer_jax" / "storage", tmp_path / "package")
    monkeypatch.setattr("transformer_jax.__file__", str(package / "__init__.py"))
    before = code_version()
    (package / "lock.py").write_text("# changed")
    assert before != code_version()


def test_home_is_expanded_in_every_path(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copyfile(ROOT / "configs" / "phrasebook.py", tmp_path / "own.py")
    shutil.copytree(tiny_run, tmp_path / "first")
    command = parse_train(["--config=~/own.py", "--workdir=~/run", "--profile=~/profile", "--training.init=~/first"])
    assert (command.workdir, command.profile) == (tmp_path / "run", tmp_path / "profile")
    assert command.config.training.init == f"{tmp_path}/first"
    assert command.config.model == TINY_CONFIG.model
