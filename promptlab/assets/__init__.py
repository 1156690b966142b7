"""The inputs of a run: prompts and datasets, read, checked and versioned."""
