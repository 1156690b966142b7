"""Models: what answers a prompt. A provider's module is loaded when its first model is made."""
