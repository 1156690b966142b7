"""What a run in the cloud costs and how long it takes, and the stack that it runs in."""
