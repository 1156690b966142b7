"""Configuration as a user wrote it (objects, dicts or YAML), made ready to run."""
