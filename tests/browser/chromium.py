"""The system's Chromium: where it is, and `python tests/browser/chromium.py` to install it where it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find_chromium() -> str | None:
    """The first of NAMES on the path."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def main() -> int:
    """Install it from Debian's packages; elsewhere say what to do."""
    if find_chromium():
        return 0
    if shutil.which("apt-get") is None:
        print(f"test-browser needs one of {', '.join(NAMES)} on the path; install it, then run this again", file=sys.stderr)
        return 1
    rights = [] if os.geteuid() == 0 else ["sudo"]
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "chromium"]):
        subprocess.run([*rights, "apt-get", *arguments], check=False)
    if find_chromium():
        return 0
    print("test-browser: apt-get did not install chromium; install a Chromium by hand, then run this again", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
