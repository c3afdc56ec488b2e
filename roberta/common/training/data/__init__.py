"""Files of examples become the batches of a training."""
