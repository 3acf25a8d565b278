"""`python -m dsel.report FOLDER`: a report over the results in a folder, or on the selection or ranking of a single run.

With `--watch` the page is served on this machine and kept up to date while the sweep runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dsel.error import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the report; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dsel.report", description="Report on a sweep's results, a selection or a ranking.")
    parser.add_argument("folder", type=Path, help="the sweep's folder: its cells' result.json files are anywhere below")
    parser.add_argument("--no-images", action="store_true", help="leave out figures/*.png and *.svg; the page has its charts anyway")
    parser.add_argument("--scale", type=float, default=2.0, help="pixels a point in the png files (default: 2)")
    parser.add_argument("--watch", action="store_true", help="serve the page on this machine while the sweep runs, and keep it up to date")
    parser.add_argument("--port", type=int, default=0, help="with --watch: the port to serve on (default: any free one)")
    options = parser.parse_args(arguments)
    try:
        if options.watch:
            from dsel.report.serve import serve

            serve(options.folder, options.port)
            return 0
        from dsel.report.single import build_single  # here, so that --help need not load the drawing libraries

        if build_single(options.folder) is not None:
            return 0
        from dsel.report.build import FORMATS, build

        build(options.folder, formats=() if options.no_images else FORMATS, scale=options.scale)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
