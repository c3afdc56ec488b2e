"""Fine-tune a classifier with a TrainState and optax in a loop of one's own, then save and load it."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformers as lib
from flax import traverse_util
from flax.training.train_state import TrainState

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
texts = json.loads((folder / "texts.json").read_text())
labels = np.array([len(text) % 3 for text in texts])
tokenizer = lib.RobertaTokenizerFast.from_pretrained(folder / "seq")
config = lib.RobertaConfig.from_pretrained(folder / "seq", num_labels=3)
model = lib.FlaxRobertaForSequenceClassification.from_pretrained(folder / "seq", config=config, seed=3)


def decays(params):
    """All but biases and the scales of layer norms."""
    flat = traverse_util.flatten_dict(params)
    return traverse_util.unflatten_dict(
        {path: path[-1] != "bias" and path[-2:] != ("LayerNorm", "scale") for path in flat}
    )


schedule = optax.join_schedules([optax.linear_schedule(0, 1e-3, 2), optax.linear_schedule(1e-3, 0, 6)], [2])
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01, mask=decays))
state = TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer)


@jax.jit
def train_step(state, batch, key):
    key, new_key = jax.random.split(key)
    targets = batch.pop("labels")

    def loss_of(params):
        logits = state.apply_fn(**batch, params=params, dropout_rng=key, train=True)[0]
        return optax.softmax_cross_entropy(logits, jax.nn.one_hot(targets, 3)).mean()

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    return state.apply_gradients(grads=gradients), loss, optax.global_norm(gradients), new_key


encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=16, return_tensors="np")
key, losses, norms = jax.random.PRNGKey(0), [], []
for _ in range(3):
    for start in (0, 4):
        batch = {name: values[start : start + 4] for name, values in encoded.items()}
        state, loss, norm, key = train_step(state, {**batch, "labels": jnp.asarray(labels[start : start + 4])}, key)
        losses.append(float(loss))
        norms.append(float(norm))

test = {name: values[8:] for name, values in encoded.items()}
logits = model(**test, params=state.params, train=False).logits
model.save_pretrained(out / "best", params=jax.device_get(state.params))
again, params = lib.FlaxRobertaForSequenceClassification.from_pretrained(out / "best", _do_init=False)
half = again.to_bf16(params, jax.tree_util.tree_map(lambda leaf: leaf.ndim > 1, params))
names = {"/".join(path): str(leaf.dtype) for path, leaf in traverse_util.flatten_dict(half).items()}
print(
    json.dumps(
        {
            "losses": losses,
            "norms": norms,
            "logits": np.asarray(logits).tolist(),
            "loaded": np.asarray(again(**test, params=params).logits).tolist(),
            "names": dict(sorted(names.items())),
        }
    )
)
