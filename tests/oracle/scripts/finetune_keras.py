"""Fine-tune a classifier with Keras' compile and fit, then predict, save and load it."""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import transformers as lib

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
texts = json.loads((folder / "texts.json").read_text())
labels = np.array([len(text) % 3 for text in texts])
tokenizer = lib.RobertaTokenizerFast.from_pretrained(folder / "seq")
model = lib.TFRobertaForSequenceClassification.from_pretrained(folder / "seq", num_labels=3)

encoded = dict(tokenizer(texts, padding="max_length", truncation=True, max_length=16, return_tensors="np"))
train = tf.data.Dataset.from_tensor_slices(({name: values[:8] for name, values in encoded.items()}, labels[:8])).batch(
    4
)
test = tf.data.Dataset.from_tensor_slices(({name: values[8:] for name, values in encoded.items()}, labels[8:])).batch(4)

model.compile(
    optimizer=tf.keras.optimizers.SGD(learning_rate=0.05, momentum=0.9),
    loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = model.fit(train, validation_data=test, epochs=3, shuffle=False, verbose=0)
logits = model.predict(test, verbose=0).logits
model.save_pretrained(out / "best")
again = lib.TFRobertaForSequenceClassification.from_pretrained(out / "best")
loaded = again({name: values[8:] for name, values in encoded.items()}, training=False).logits
print(
    json.dumps(
        {
            "history": {name: [float(value) for value in values] for name, values in sorted(history.history.items())},
            "logits": np.asarray(logits).tolist(),
            "loaded": np.asarray(loaded).tolist(),
        }
    )
)
