"""The client of a hosted Studio's API."""
