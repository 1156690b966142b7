"""The content of pages, as values: pure functions, so that a page can be tested
without a browser or a lab."""
