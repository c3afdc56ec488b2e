"""A folder becomes the tensors of one class, and back."""
