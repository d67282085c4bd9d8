"""Take the README's picture of the planning page: a running page, a browser, one question.

python docs/screenshot.py [ADDRESS], with the page at ADDRESS (http://localhost:8501).
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Write docs/planning-page.png."""
    address = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8501"
    browser = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 1400})
        page.goto(f"{address}/?searched=1")
        page.get_by_text("Time against memory").wait_for(timeout=120_000)
        page.wait_for_timeout(3_000)
        page.screenshot(path=Path(__file__).parent / "planning-page.png")
        chromium.close()


if __name__ == "__main__":
    main()
