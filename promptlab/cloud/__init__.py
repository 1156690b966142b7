"""Cost and duration of a run in the cloud, and the stack that it runs in."""
