"""The objects that a script works with: `PromptLab` and `Run`."""
