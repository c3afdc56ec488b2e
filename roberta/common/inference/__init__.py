"""`infer()` without a framework: batches of real tokens only."""
