"""What a user wrote: configuration as objects, dicts or YAML, made ready to run."""
