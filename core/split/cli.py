"""The verb `split`: one side of a run by hand, and what belongs to it."""

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

from core.arguments import at_least, examples, host_and_port, seconds
from core.errors import ConfigError

log = logging.getLogger(__name__)

Command = Callable[[argparse.Namespace], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's own verbs."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _cloud(verbs.add_parser("cloud", help="the cloud's side: wait for the edge and work with it"))
    _edge(verbs.add_parser("edge", help="the edge's side: train with a cloud that is there"))
    _certificates(verbs.add_parser("certificates", help="make the certificates of both sides"))
    _profile(verbs.add_parser("profile", help="measure what each block takes on this device"))
    _link(verbs.add_parser("link", help="an emulated link in front of a cloud"))


def _cloud(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The cloud's side of a run: wait for the edge, and work with it until the run is over. "
        "Killed and started again, it goes on from its last snapshot."
    )
    _both_sides(parser)
    parser.add_argument("--snapshots", type=Path, help="folder of its snapshots")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the run's results, in the place of --snapshots, for a network whose first "
        "blocks are in the cloud",
    )
    parser.add_argument(
        "--listen", default="0.0.0.0:50051", metavar="HOST:PORT", help="where to wait for it"
    )
    parser.add_argument(
        "--link", action="store_true", help="emulate the network of the spec's context here"
    )
    examples(
        parser,
        "envs/run main python -m core split cloud spec.yaml "
        "--certificates certificates --snapshots cloud-snapshots --listen 0.0.0.0:50051",
    )

    def command(args: argparse.Namespace) -> None:
        from core.spec import RunSpec
        from core.split.run import Place, run_cloud

        host_and_port(args.listen)
        spec = RunSpec.load(args.spec)
        place = Place(args.certificates, args.patience, args.child, args.shared, args.link)
        run_cloud(spec, args.snapshots, args.out, args.listen, place)

    parser.set_defaults(command=command)


def _edge(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a run with a cloud that was started by `split cloud` with the same spec. Stop it "
        "in any way; the same command goes on from the last snapshot of both sides."
    )
    _both_sides(parser)
    parser.add_argument("--cloud", required=True, metavar="HOST:PORT", help="where the cloud is")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run's results")
    examples(
        parser,
        "envs/run main python -m core split edge spec.yaml "
        "--certificates certificates --cloud cloud.example.org:50051 --out run",
    )

    def command(args: argparse.Namespace) -> None:
        from core.spec import RunSpec
        from core.split.run import Place, run_edge

        host_and_port(args.cloud)
        spec = RunSpec.load(args.spec)
        place = Place(args.certificates, args.patience, args.child, args.shared)
        run_edge(spec, args.out, args.cloud, place)

    parser.set_defaults(command=command)


def _both_sides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, help="run spec (YAML), the same on both sides")
    parser.add_argument(
        "--certificates", type=Path, required=True, help="folder of this side's certificates"
    )
    parser.add_argument(
        "--patience",
        type=seconds,
        default=600.0,
        metavar="SECONDS",
        help="how long the other side may stay away before this one ends",
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--shared", action="store_true", help=argparse.SUPPRESS)


def _certificates(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make an authority of your own and, signed by it, a certificate and a key for each side. "
        "Each side needs ca.crt and its own two files; the authority's key is not kept."
    )
    parser.add_argument("folder", type=Path, help="where to write them")
    parser.add_argument("--host", action="append", default=[], help="name or address of the cloud")
    parser.add_argument("--days", type=at_least(1), default=30, help="days for which they hold")
    examples(
        parser,
        "envs/run main python -m core split certificates certificates --host cloud.example.org",
    )

    def command(args: argparse.Namespace) -> None:
        from core.split.certificates import make

        make(args.folder, days=args.days, hosts=args.host)
        log.info("certificates for cloud and edge are in %s", args.folder)

    parser.set_defaults(command=command)


def _profile(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measure the blocks and codecs of a run's network on this device."
    parser.add_argument("spec", type=Path, help="run spec that names network, batch and devices")
    parser.add_argument("--side", choices=("edge", "cloud"), required=True, help="whose device")
    parser.add_argument("--out", type=Path, required=True, help="profile to write (JSON)")
    parser.add_argument("--repeats", type=at_least(1), default=5, help="measured steps, 1 or more")
    examples(
        parser,
        "envs/run main python -m core split profile spec.yaml --side edge --out edge.json",
    )

    def command(args: argparse.Namespace) -> None:
        from core.spec import RunSpec
        from core.split.profile import measure
        from core.training.alone import alone_on

        spec = RunSpec.load(args.spec)
        with alone_on(spec[args.side]["name"]):
            measure(spec, args.side, args.out, args.repeats)

    parser.set_defaults(command=command)


def _link(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Stand between an edge and a cloud and pass on what they send as a network of this "
        "context would. `--self-test` reports the rates that were asked and those given."
    )
    parser.add_argument("context", type=Path, help="file of config/contexts")
    parser.add_argument(
        "--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="where to wait for the edge"
    )
    parser.add_argument("--to", metavar="HOST:PORT", help="where the cloud is")
    parser.add_argument("--report", type=Path, help="JSON to write at the end")
    parser.add_argument("--self-test", action="store_true", help="measure the emulation and end")
    examples(
        parser,
        "envs/run main python -m core split link config/contexts/wifi.yaml --self-test",
        "envs/run main python -m core split link config/contexts/wifi.yaml "
        "--listen 127.0.0.1:50052 --to cloud.example.org:50051 --report link.json",
    )

    def command(args: argparse.Namespace) -> None:
        from core.split.contexts import load
        from core.split.link import measure, serve

        context = load(args.context)
        if args.self_test:
            print(json.dumps(measure(context), indent=1))
        elif args.to:
            serve(host_and_port(args.listen), host_and_port(args.to), context, args.report)
        else:
            raise ConfigError("split link: say where the cloud is with --to, or --self-test")

    parser.set_defaults(command=command)
