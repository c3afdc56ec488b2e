"""`generate()` without a framework: settings, prompts, processors, search."""
