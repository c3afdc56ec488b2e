"""KerasHub's presets of RoBERTa: read and written without Keras or KerasHub."""
