"""A browser for the tests: the system's Chromium, installed where that is possible.

``python -m tests.ui.browser`` installs it on a Debian machine, as root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Seconds for each command of an installation.
PATIENCE_S = 600


def browser() -> str | None:
    """Return where the browser is; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def install() -> str:
    """Install a browser if there is none, and return what came of it."""
    if browser():
        return f"there is one: {browser()}"
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return "no browser, and none can be installed without apt-get and root"
    try:
        for words in (("update", "-q"), ("install", "-y", "-q", "chromium")):
            subprocess.run(["apt-get", *words], check=True, capture_output=True, timeout=PATIENCE_S)
    except (OSError, subprocess.SubprocessError) as error:
        return f"no browser: {error}"
    return f"installed: {browser()}"


if __name__ == "__main__":
    sys.stdout.write(install() + "\n")
