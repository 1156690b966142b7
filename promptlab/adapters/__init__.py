"""The ports' implementations: a file and a folder, AWS, and the API of a hosted lab."""
