"""The Flax classes compared with those of transformers 4.57: trees of parameters, dtypes that are kept, and names.

Run as a program, this file is the peer: `python test_flax_oracle.py FOLDER` writes FOLDER/peer.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HEADS = (
    "Model", "ForCausalLM", "ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice", "ForTokenClassification",
    "ForQuestionAnswering",
)  # fmt: skip
DTYPES = ("float32", "bfloat16", "float16")


def trees(library: Any, folder: Path) -> dict[str, dict[str, list[int]]]:
    """The path and shape of every parameter of each class, with and without pooler, tie and cross-attention."""
    from flax.traverse_util import flatten_dict

    config = library.RobertaConfig.from_pretrained(folder / "float32")
    wide = library.RobertaConfig.from_pretrained(
        folder / "float32", is_decoder=True, add_cross_attention=True, tie_word_embeddings=False
    )
    makers = {head: (head, config, {}) for head in HEADS}
    makers["no pooler"] = ("Model", config, {"add_pooling_layer": False})
    makers["decoder, untied"] = ("ForCausalLM", wide, {})
    return {
        name: {
            "/".join(path): list(leaf.shape)
            for path, leaf in flatten_dict(
                dict(getattr(library, f"FlaxRoberta{head}")(config, _do_init=False, **options).params_shape_tree)
            ).items()
        }
        for name, (head, config, options) in makers.items()
    }


def kept(library: Any, folder: Path) -> dict[str, list[str]]:
    """The dtypes of parameters and of results, by the dtype of the file and the requested one."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    found = {}
    for stored in DTYPES:
        for wanted in DTYPES:
            model, params = library.FlaxRobertaModel.from_pretrained(
                folder / stored, dtype=jnp.dtype(wanted), _do_init=False
            )
            output = jax.eval_shape(
                lambda params, model=model: model(np.full((1, 3), 5), params=params).last_hidden_state, params
            )
            kinds = sorted({str(leaf.dtype) for leaf in jax.tree_util.tree_leaves(params)})
            found[f"{stored}, {wanted}"] = [*kinds, str(output.dtype)]
    return found


def described(library: Any, module: Any, folder: Path) -> dict[str, Any]:
    """Everything that is compared."""
    own = [name for name in dir(module) if name.startswith("FlaxRoberta") or name.startswith("create_")]
    return {"trees": trees(library, folder), "kept": kept(library, folder), "names": sorted(own)}


if __name__ == "__main__":
    import transformers
    from transformers.models.roberta import modeling_flax_roberta as peer_module

    place = Path(sys.argv[1])
    (place / "peer.json").write_text(json.dumps(described(transformers, peer_module, place)))
    sys.exit()

import checkpoints  # noqa: E402
import peers  # noqa: E402
import pytest  # noqa: E402
from backends import backend  # noqa: E402

from roberta.common.formats import flax_msgpack  # noqa: E402


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results here, and those with transformers."""
    backend("flax")
    folder = tmp_path_factory.mktemp("flax")
    for dtype in DTYPES:
        config = checkpoints.small_config("Model", num_hidden_layers=1, num_labels=2)
        # transformers cannot read safetensors with _do_init=False
        checkpoints.save(folder / dtype, config, checkpoints.draw(config, "Model"), dtype, legacy=flax_msgpack)
    environment = {**os.environ, "PYTHONPATH": str(peers.overlay(4)), "USE_TF": "0", "USE_TORCH": "0"}
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    import roberta
    from roberta import modeling_flax_roberta

    return described(roberta, modeling_flax_roberta, folder), json.loads((folder / "peer.json").read_text())


def test_the_trees_of_parameters_are_those_of_transformers(both: Any) -> None:
    found, wanted = both
    assert found["trees"] == wanted["trees"]


def test_dtypes_of_parameters_and_results_are_those_of_transformers(both: Any) -> None:
    found, wanted = both
    assert found["kept"] == wanted["kept"]


def test_its_module_has_every_name(both: Any) -> None:
    found, wanted = both
    assert set(wanted["names"]) <= set(found["names"])
