"""Training, as far as it is numpy: data, batches, settings, and what happens between two updates of the weights.

The updates are each backend's own: `roberta.pt.training`, `roberta.tf.training`, `roberta.flax.training`.
"""
