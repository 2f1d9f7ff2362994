"""The model card of a published run, made of its results.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformer_jax.data.languages import find_language
from transformer_jax.errors import InputError
from transformer_jax.terminal import one_line, quote

CARD = """---
{metadata}
---

# {title}

A Transformer that translates from {source} to {target}. It was trained with transformer_jax, a JAX implementation of
"Attention Is All You Need" (Vaswani et al. 2017).

## Use

Install transformer_jax with its `hub` extra. The model is downloaded at its first use.

```bash
transformer-jax translate "TEXT" --workdir {run}
```

```python
from transformer_jax import Translator

translator = Translator.load("{run}")
[translation] = translator.translate(["TEXT"])
print(translation.text)
```

To start another training from these weights, use `transformer-jax train --training.init {run}`.

## Scores

Test set: {test}, decoded with beam size {beam} and length penalty {length_penalty}.

{scores}
{overlap}
## Training

{facts}

## Licence

The licence of the weights is `{license}`.
"""


def model_card(results: Mapping[str, Any], repository: str, license_id: str) -> str:
    """Return the text of README.md, with the metadata that the hub reads.

    results: the published results.json.
    repository: OWNER/NAME.
    license_id: identifier of the licence on the hub.
    Raises InputError if results.json lacks a value.
    """
    from huggingface_hub import EvalResult, ModelCardData

    try:
        data, decoding, scores = results["config"]["data"], results["decoding"], results["scores"]
        languages = [find_language(data[side]).code for side in ("source", "target")]
        evaluations = [
            EvalResult(
                task_type="translation",
                dataset_type=data["test"],
                dataset_name=data["test"],
                metric_type=name.lower(),
                metric_name=f"{name} ({score['signature']})",
                metric_value=round(float(score["value"]), 2),
            )
            for name, score in scores.items()
        ]
        metadata = ModelCardData(
            language=languages,
            license=license_id,
            library_name="transformer_jax",
            pipeline_tag="translation",
            tags=["jax", "translation"],
            model_name=repository.rpartition("/")[2],
            eval_results=evaluations or None,
        )
        return CARD.format(
            metadata=metadata.to_yaml().strip(),
            title=repository.rpartition("/")[2],
            source=as_code(data["source"]),
            target=as_code(data["target"]),
            run=quote(f"hf://{repository}"),
            test=as_code(data["test"]),
            beam=decoding["beam"],
            length_penalty=decoding["length_penalty"],
            scores="\n".join(
                f"- {name} {float(score['value']):.2f}, signature {as_code(score['signature'])}"
                for name, score in scores.items()
            ),
            overlap=describe_overlap(results.get("overlap")),
            facts="\n".join(f"- {name}: {value}" for name, value in training_facts(results).items()),
            license=license_id,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"results.json is damaged ({error!r}). Run the train command of this run again, which scores it anew."
        ) from error


def training_facts(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts about the training by their names."""
    config, hardware = results["config"], results["hardware"]
    devices = ", ".join(dict.fromkeys(hardware["devices"]))
    return {
        "training text": f"{as_code(config['data']['train'])}, {results['training_pairs']:,} pairs",
        "validation text": as_code(config["data"]["valid"]),
        **({"initial weights": as_code(config["training"]["init"])} if config["training"]["init"] else {}),
        "parameters": f"{results['parameters']:,}",
        "updates": f"{results['best_step']:,}, the best checkpoint of {config['training']['steps']:,}",
        "time": f"{results['wall_seconds'] / 60:.1f} minutes",
        "hardware": as_code(f"{devices}, {hardware['processor']}, {hardware['cores']} cores"),
        "versions": as_code(", ".join(f"{name} {results['versions'][name]}" for name in ("python", "jax", "flax"))),
    }


def describe_overlap(overlap: Mapping[str, int] | None) -> str:
    """Return a paragraph about test sentences in the training text, or nothing if there are none."""
    if not overlap or not overlap["sources"]:
        return ""
    return (
        f"\nThe scores are too high, because the training text contains {overlap['sources']:,} of "
        f"{overlap['sentences']:,} test sentences.\n"
    )


def as_code(text: str) -> str:
    """Return a text as Markdown code on one line."""
    code = one_line(str(text), 200).replace("`", "'")
    return f"`{code}`"
