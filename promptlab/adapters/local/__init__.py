"""The embedded store: SQLite, a folder of blobs, and runs in this process."""
