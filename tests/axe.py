"""What axe-core finds on pages, in light and in dark, on a wide and a narrow screen.

    python -m tests.axe paper_run/report.html http://127.0.0.1:8000     (or: make axe PAGES='...')

The exit status is 1 where it finds anything, 2 where a page or something needed is missing.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

#: widths of the window in pixels: a desk's and a telephone's
WIDTHS = (1280, 390)
LONGEST_MS = 120_000  # for a page to load, on a machine that does much else, too
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class CannotLookError(Exception):
    """What is missing, and how to get it."""


def address(page: str) -> str:
    """The URL of a file, or the URL as it is."""
    if "://" in page:
        return page
    if not Path(page).is_file():
        raise CannotLookError(f"{page}: no such file; expected an HTML file or a URL")
    return Path(page).resolve().as_uri()


def browser_path() -> str:
    """Chromium, as the system has it."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise CannotLookError("no Chromium found; on Debian run: apt-get install chromium")


def findings(violations: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each element that a rule is broken on: the rule, what it asks for, and where."""
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: {' '.join(map(str, node['target']))}: "
        f"{' '.join(node['html'].split())[:120]}"
        for violation in violations
        for node in violation["nodes"]
    ]


def look(pages: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(page, scheme and width; findings) for each page.  Raises CannotLookError."""
    urls, executable = [address(page) for page in pages], browser_path()
    try:
        from axe_playwright_python.sync_playwright import Axe
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise CannotLookError(
            f"axe-core is not installed; run: {sys.executable} -m pip install 'axe-playwright-python>=0.1.7'"
        ) from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        for url in urls:
            for scheme in ("light", "dark"):
                for width in WIDTHS:
                    tab = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
                    try:
                        tab.goto(url, timeout=LONGEST_MS)
                    except Error as error:
                        raise CannotLookError(f"{url}: {str(error).splitlines()[0]}") from None
                    # what is closed counts, too
                    tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
                    found = Axe().run(tab).response["violations"]
                    tab.close()
                    yield f"{url} {scheme} {width} px", findings(found)
        browser.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is found; the exit status."""
    parser = argparse.ArgumentParser(description="Look at pages with axe-core, in light and dark.")
    parser.add_argument("page", nargs="+", help="an HTML file or a URL")
    status = 0
    try:
        for where, found in look(parser.parse_args(arguments).page):
            print(f"{where}: {len(found) or 'nothing'} found")
            for line in found:
                print(f"  {line}")
                status = 1
    except CannotLookError as error:
        print(f"axe: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
