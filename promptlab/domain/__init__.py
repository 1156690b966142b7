"""Pure values and rules. Nothing here does I/O."""
