"""The forms in which each provider wants messages, tools and media."""
