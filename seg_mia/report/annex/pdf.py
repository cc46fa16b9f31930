"""A page printed to PDF by an installed browser."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from seg_mia.errors import InputError

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
)
"""Browsers that print without a window, by the name of their program."""
LONGEST = 240.0
"""Seconds until a browser that does not end is stopped."""


def browser() -> str | None:
    """Return the path of an installed browser that can print, None without one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def print_page(page: Path, pdf: Path) -> None:
    """Print a page to a PDF file.

    The page must be self-contained: its content security policy lets the browser fetch nothing.

    Raises:
        InputError: no browser, or one that prints nothing.
    """
    program = browser()
    remedy = f"open {page.name} in a browser and print it to PDF"
    if program is None:
        raise InputError(f"--pdf needs Chromium, Chrome or Edge in the PATH, and finds none; {remedy}")
    pdf.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="seg_mia-print-", ignore_cleanup_errors=True) as profile:
        command = [
            program,
            "--headless=new",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--no-pdf-header-footer",
            f"--user-data-dir={profile}",
            f"--print-to-pdf={pdf.resolve()}",
            *_as_root(),
            page.resolve().as_uri(),
        ]
        try:
            result = subprocess.run(command, capture_output=True, timeout=LONGEST, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(
                f"{program} did not print {page.name} ({type(error).__name__}); {remedy}"
            ) from None
    if result.returncode or not pdf.is_file():
        raise InputError(f"{program} did not print {page.name} (exit code {result.returncode}); {remedy}")


def _as_root() -> list[str]:
    """Return the option without which Chromium refuses to run as root, as in a container."""
    geteuid = getattr(os, "geteuid", None)
    return ["--no-sandbox"] if geteuid is not None and geteuid() == 0 else []
