"""What goes into a run: prompts and datasets, read, checked and versioned."""
