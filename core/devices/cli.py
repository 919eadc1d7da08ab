"""The verb `devices`: boards over SSH."""

import argparse
import logging
import sys
from pathlib import Path

from core.arguments import seconds
from core.devices.hosts import DEFAULT, host, read_hosts
from core.errors import ConfigError, CoreError

log = logging.getLogger(__name__)

HERE = "local"  # this host, among the names of config/devices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verbs below `devices`."""
    parser.add_argument(
        "--hosts", type=Path, default=DEFAULT, help=f"where boards are (default: {DEFAULT})"
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _check(
        verbs.add_parser("check", help="say of each board what it is and whether it can be used")
    )
    _trust(verbs.add_parser("trust", help="show a board's host key and make it known"))
    _prepare(verbs.add_parser("prepare", help="bring code there and make an environment"))
    _run(verbs.add_parser("run", help="run a command of core there and bring back its results"))
    _stop(verbs.add_parser("stop", help="let a run save and end"))
    _clean(verbs.add_parser("clean", help="remove old runs and files from a board"))


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="boards; all without any")

    def command(args: argparse.Namespace) -> None:
        from core.devices.check import check

        names = args.names or sorted(read_hosts(args.hosts))
        if not names:
            raise ConfigError(f"{args.hosts} names no board; see config/hosts.example.yaml")
        first: CoreError | None = None
        for name in names:
            print(name)
            try:
                for what, answer in check(host(name, args.hosts)):
                    print(f"  {what:14} {answer}")
            except CoreError as error:
                first = first or error
                print(f"  {'error':14} {error}")
        if first is not None:
            raise type(first)(f"not every board can be used; the first: {first}")

    parser.set_defaults(command=command)


def _trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="board")
    parser.add_argument("--fingerprint", help="take the key if this is its fingerprint; ask nobody")

    def command(args: argparse.Namespace) -> None:
        from core.devices.trust import trust

        board = host(args.name, args.hosts)

        def confirm(mark: str) -> bool:
            if args.fingerprint is not None:
                return bool(mark.split()[-1] == args.fingerprint.split()[-1])
            print(f"{board.name} ({board.address}) shows the host key\n  {mark}")
            print("The board tells its own with: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
            return input("The same? (yes/no) ").strip() == "yes" if sys.stdin.isatty() else False

        log.info("%s: trusted %s in %s", board.name, trust(board, confirm), board.known_hosts)

    parser.set_defaults(command=command)


def _prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="board")
    parser.add_argument(
        "--environment", default="main", choices=("main", "tensorflow"), help="which to make there"
    )

    def command(args: argparse.Namespace) -> None:
        from core.devices.dispatch import carry
        from core.devices.job import Job

        board = host(args.name, args.hosts)
        if board.python is not None:
            raise ConfigError(
                f"{args.hosts}: {board.name} has its own python ({board.python}); nothing is made "
                "there. Remove that line to have an environment made"
            )
        carry(board, Job((), args.environment))

    parser.set_defaults(command=command)


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="board; of a split run, that of the edge, or `local`")
    parser.add_argument("--environment", default="main", help="environment of the command there")
    parser.add_argument(
        "--patience", type=seconds, default=600.0, help="seconds that a silent board is waited for"
    )
    parser.add_argument(
        "--here", metavar="ADDRESS", help="of this host, at which an edge there finds a cloud here"
    )
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="COMMAND", help="as after `python -m core`"
    )

    def command(args: argparse.Namespace) -> None:
        from core.devices.backoff import Backoff
        from core.devices.dispatch import carry, goes_on
        from core.devices.job import Job
        from core.devices.split import carry_split, is_split

        words = args.words[1:] if args.words[:1] == ["--"] else args.words
        job, backoff = Job.of(words, args.environment), Backoff(patience=args.patience)
        if is_split(job):
            edge = None if args.name == HERE else host(args.name, args.hosts)
            carry_split(edge, job, backoff, args.hosts, args.here)
            return
        board = host(args.name, args.hosts)
        try:
            carry(board, job, backoff)
        except KeyboardInterrupt:
            goes_on(job.title, [board.name])
            raise

    parser.set_defaults(command=command)


def _stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="folder of the run's results")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds until it is killed")

    def command(args: argparse.Namespace) -> None:
        from core.devices.stop import stop

        log.info("%s", stop(args.out, args.hosts, args.patience))

    parser.set_defaults(command=command)


def _clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="board")
    parser.add_argument(
        "--days", type=float, default=30.0, help="what nothing used for so long goes"
    )

    def command(args: argparse.Namespace) -> None:
        from core.devices.stop import clean

        log.info("%s", clean(host(args.name, args.hosts), args.days))

    parser.set_defaults(command=command)
