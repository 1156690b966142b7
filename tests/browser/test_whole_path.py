"""The whole path on a laptop; tests/cloud/test_browser.py walks it at a hosted Studio."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from tests.browser.conftest import Site
from tests.browser.whole_path import walk


def test_the_whole_path_from_a_file_to_a_comparison(empty_site: Site, page: Page, tmp_path: Path) -> None:
    """Beginning with nothing."""
    walk(page, empty_site.url, tmp_path)
