"""What the ports stand for here: a file and a folder, AWS, and the API of a hosted lab."""
