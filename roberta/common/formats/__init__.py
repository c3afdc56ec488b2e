"""Bytes to tensors and back, one module a file format. No framework."""
