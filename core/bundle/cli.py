"""The verbs `bundle` and `verify`."""

import argparse
import logging
from pathlib import Path

from core.planning import configuration

log = logging.getLogger(__name__)

LICENCE = "https://spdx.org/licenses/Apache-2.0"  # of this project


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `bundle`."""
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE", help="archive to write (.tar.gz)")
    configuration.add_arguments(parser)
    add("--no-logs", action="store_true", help="leave logs out; they name machines and paths")
    add("--licence", default=LICENCE, metavar="URL", help="licence of the results")


def bundle(args: argparse.Namespace) -> None:
    """Write a bundle of the working folder."""
    from core.bundle import archive  # late, as with all verbs
    from core.bundle.contents import contents

    config = configuration.read(args.configfile, args.config)
    files = contents(config, logs=not args.no_logs)
    archive.write(files, args.licence, args.out)
    log.info("%s: %d files, %.1f MB", args.out, len(files), args.out.stat().st_size / 1e6)


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `verify`."""
    parser.add_argument("bundle", type=Path, help="archive, or the folder of an unpacked one")
    parser.add_argument(
        "--into", type=Path, metavar="FOLDER", help="unpack it there afterwards; new or empty"
    )


def verify(args: argparse.Namespace) -> None:
    """Check a bundle, and unpack it."""
    from core.bundle import archive

    if args.into is None:
        found = archive.verify(args.bundle)
        log.info("%s: all %d files are as they were bundled", args.bundle, len(found))
        return
    archive.unpack(args.bundle, args.into)
    log.info("%s: checked, and unpacked into %s", args.bundle, args.into)
