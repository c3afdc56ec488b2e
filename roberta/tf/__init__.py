"""RoBERTa in TensorFlow (Keras 3). The classes are in `models`; importing this package imports no framework."""
