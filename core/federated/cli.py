"""The verb `federated`: one side of a run by hand, and what belongs to it."""

import argparse
import logging
from pathlib import Path

from core.arguments import at_least, examples, host_and_port, seconds

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's own verbs."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _server(verbs.add_parser("server", help="the server's side: wait for the parties and train"))
    _party(verbs.add_parser("party", help="a party's side: train with a server that is there"))
    _divide(verbs.add_parser("divide", help="make of prepared data what each side may have"))
    _certificates(verbs.add_parser("certificates", help="make the certificates of all sides"))


def _server(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Hold the labels and the upper network of a run, wait for every party that its spec names, "
        "and train. Stop it in any way; the same command goes on from the last snapshot of all "
        "sides."
    )
    _every_side(parser)
    parser.add_argument(
        "--listen",
        default="0.0.0.0:50051",
        metavar="HOST:PORT",
        help="where to wait for the parties",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run's results")
    examples(
        parser,
        "envs/run main python -m core federated server spec.yaml --data silos/server "
        "--certificates certificates --listen 0.0.0.0:50051 --out run",
    )

    def command(args: argparse.Namespace) -> None:
        from core.federated.run import run_server
        from core.spec import RunSpec

        host_and_port(args.listen)
        spec = RunSpec.load(args.spec, "federated")
        run_server(spec, args.out, args.data, args.listen, args.certificates, args.patience)

    parser.set_defaults(command=command)


def _party(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Hold a party's columns of a run, and train with the server until all is done. Killed and "
        "started again, it goes on from the last snapshot of all sides."
    )
    _every_side(parser)
    parser.add_argument("--name", required=True, help="which party of the spec this is")
    parser.add_argument("--snapshots", type=Path, required=True, help="folder of its snapshots")
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="where the server is")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    examples(
        parser,
        "envs/run main python -m core federated party spec.yaml --name a --data silos/a "
        "--certificates certificates --snapshots snapshots --server server.example.org:50051",
    )

    def command(args: argparse.Namespace) -> None:
        from core.federated.run import run_party
        from core.spec import RunSpec

        host_and_port(args.server)
        spec = RunSpec.load(args.spec, "federated")
        run_party(
            spec, args.name, args.data, args.snapshots, args.server, args.certificates,
            args.patience, args.child,
        )  # fmt: skip

    parser.set_defaults(command=command)


def _every_side(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, help="run spec (YAML), the same on all sides")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of this side's own data, as `divide` makes"
    )
    parser.add_argument(
        "--certificates", type=Path, required=True, help="folder of this side's certificates"
    )
    parser.add_argument(
        "--patience",
        type=seconds,
        default=600.0,
        metavar="SECONDS",
        help="how long another side may stay away before this one ends",
    )


def _divide(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make a folder for each side of a run: for a party its columns of the histories, for the "
        "server the labels. Give each side its own folder and no other."
    )
    parser.add_argument("spec", type=Path, help="run spec (YAML)")
    parser.add_argument("--out", type=Path, required=True, help="where to make the folders")
    examples(
        parser,
        "envs/run main python -m core federated divide spec.yaml --out silos",
    )

    def command(args: argparse.Namespace) -> None:
        from core.data.histories import open_histories
        from core.federated.silos import divide
        from core.spec import RunSpec

        spec = RunSpec.load(args.spec, "federated")
        divide(open_histories(Path(spec["data"]["folder"])), spec, args.out)
        log.info("what each side may have is in %s", args.out)

    parser.set_defaults(command=command)


def _certificates(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make an authority of your own and, signed by it, a certificate and a key for the server "
        "and for each party of a spec. Each side needs ca.crt and its own two files; the "
        "authority's key is not kept."
    )
    parser.add_argument("spec", type=Path, help="run spec (YAML), which names the parties")
    parser.add_argument("folder", type=Path, help="where to write them")
    parser.add_argument("--host", action="append", default=[], help="name or address of the server")
    parser.add_argument("--days", type=at_least(1), default=30, help="days for which they hold")
    examples(
        parser,
        "envs/run main python -m core federated certificates spec.yaml certificates "
        "--host server.example.org",
    )

    def command(args: argparse.Namespace) -> None:
        from core.federated.run import make_certificates
        from core.spec import RunSpec

        spec = RunSpec.load(args.spec, "federated")
        make_certificates(spec, args.folder, args.days, args.host)
        log.info("certificates for all sides are in %s", args.folder)

    parser.set_defaults(command=command)
