"""LoRA adapters in PEFT's format: read, merged into weights, kept live beside them, and written, without a framework."""
