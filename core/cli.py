"""`python -m core <verb>`: the one way in, the same on the host, on a device and by hand."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from core import __version__
from core.arguments import Parser, at_least, examples
from core.errors import CoreError, MissingPackageError, exit_codes
from core.files import writing

Command = Callable[[argparse.Namespace], None]

log = logging.getLogger("core")


def main(words: list[str] | None = None) -> int:
    """Run a verb and return its exit code."""
    args = _parser().parse_args(words)
    log.setLevel(logging.INFO)
    log.addHandler(ProgressAwareHandler())
    code = 0
    try:
        code = _run_verb(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read it, such as `head`, has seen enough. Python would flush it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run_verb(args: argparse.Namespace) -> int:
    try:
        if args.log is not None:
            _log_into(args.log)
        args.command(args)
    except CoreError as error:
        log.error("error: %s", error)
        return error.exit_code
    except ModuleNotFoundError as error:
        log.error("error: %s", _missing(error))
        return MissingPackageError.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError):
            print(flush=True)  # breaks again if it was this pipe, which is no defect
        log.exception("this is a defect of core, please report it:")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m core",
        description=(
            "Training at the edge. Snakemake calls these verbs; they work by hand too. VERB --help "
            "has the arguments of each and examples; docs/commands.md has all of them on one page."
        ),
        epilog=_exit_code_table(),
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"core {__version__}",
        help="print the version and end",
    )
    parser.add_argument("--log", type=Path, help="file that gets a copy of every message")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _fetch(verbs.add_parser("fetch", help="fetch and prepare a data set, or pretrained weights"))
    _profile(verbs.add_parser("profile", help="measure what each tensor costs on this device"))
    _run(verbs.add_parser("run", help="train one run from its spec; goes on if it was stopped"))
    _split(verbs.add_parser("split", help="train between an edge and a cloud, side by side"))
    _federated(verbs.add_parser("federated", help="train between parties and a server by hand"))
    _devices(verbs.add_parser("devices", help="boards over SSH: check, prepare, run there, stop"))
    _plan(verbs.add_parser("plan", help="what figures still need, on which device, for how long"))
    _claims(verbs.add_parser("claims", help="the papers' statements beside what was measured here"))
    _report(verbs.add_parser("report", help="one page of figures, claims and runs (HTML)"))
    _bundle(verbs.add_parser("bundle", help="put a campaign into one file, with checksums"))
    _verify(verbs.add_parser("verify", help="check such a file, and unpack it"))
    _figure(verbs.add_parser("figure", help="draw one figure from results"))
    _measure(verbs.add_parser("measure", help="the power and other sensors of this machine"))
    _bench(verbs.add_parser("bench", help="run one benchmark and print its numbers as JSON"))
    _pages(
        verbs.add_parser(
            "pages", help="write the pages that the program makes, and the README's pictures"
        )
    )
    return parser


def _fetch(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Fetch a data set or pretrained weights by its name in the catalog "
        "(core/data/catalog.yaml), and prepare it: images in one size, texts as rows of tokens. "
        "Broken downloads go on, finished ones are checked, and nothing is done twice."
    )
    parser.add_argument("name", help="entry of the catalog, such as elpv or resnet50")
    parser.add_argument("--out", type=Path, required=True, help="folder for the prepared files")
    parser.add_argument(
        "--size",
        type=int,
        help="side of images in pixels, words of texts, or movies; 8 to 1024, none for weights",
    )
    parser.add_argument(
        "--downloads",
        type=Path,
        default=Path("results/downloads"),
        help="folder for archives; one that lies there already is not fetched",
    )
    examples(
        parser,
        "envs/run main python -m core fetch elpv --size 64 --out results/data/elpv-64",
        "envs/run main python -m core fetch resnet50 --out results/weights/resnet50",
    )

    def command(args: argparse.Namespace) -> None:
        from core.data.fetch import fetch

        fetch(args.name, args.out, args.size, args.downloads)

    parser.set_defaults(command=command)


def _profile(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure the timing profile of a run's model on this device: for each tensor what its "
        "gradient and its update take, by which ElasticTrainer selects. The machine should be "
        "quiet: parts that do not add up to the whole step are measured up to three times."
    )
    parser.add_argument("spec", type=Path, help="run spec that names model, data and device")
    parser.add_argument("--out", type=Path, required=True, help="profile to write (JSON)")
    parser.add_argument(
        "--repeats", type=at_least(3), default=15, help="measured steps per timing, 3 or more"
    )
    examples(
        parser,
        "envs/run tensorflow python -m core profile RUN_FOLDER/spec.yaml --out profile.json",
    )

    def command(args: argparse.Namespace) -> None:
        from core.elastic.run import profile
        from core.spec import RunSpec

        profile(RunSpec.load(args.spec), args.out, args.repeats)

    parser.set_defaults(command=command)


def _run(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train one run: of ElasticTrainer and its baselines, of split or of federated training, "
        "as its spec says, which Snakemake writes into the run's folder. Stop it in any way; the "
        "same command goes on from the last snapshot, which lies beside the folder. A "
        "finished run is not trained again."
    )
    parser.add_argument("spec", type=Path, help="run spec (YAML)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run's results")
    examples(parser, "envs/run tensorflow python -m core run RUN_FOLDER/spec.yaml --out RUN_FOLDER")

    def command(args: argparse.Namespace) -> None:
        from core.spec import RunSpec
        from core.training.run_folder import only_one

        spec = RunSpec.load(args.spec)
        run = import_module(f"core.{spec['kind']}.run").run
        with only_one(args.out):
            run(spec, args.out)

    parser.set_defaults(command=command)


def _split(parser: argparse.ArgumentParser) -> None:
    from core.split import cli

    parser.description = (
        "One side of a run of split training by hand, and what belongs to it (docs/split.md). "
        "`run` starts both sides on this machine."
    )
    cli.add_arguments(parser)


def _federated(parser: argparse.ArgumentParser) -> None:
    from core.federated import cli

    parser.description = (
        "One side of a run of vertical federated training by hand, and what belongs to it "
        "(docs/federated.md). `run` starts all sides on this machine."
    )
    cli.add_arguments(parser)


def _devices(parser: argparse.ArgumentParser) -> None:
    from core.devices import cli

    parser.description = (
        "Boards over SSH (docs/devices.md): where they are is in config/hosts.yaml. Snakemake "
        "does the same as `devices run` for every run that the configuration gives to a board."
    )
    cli.add_arguments(parser)
    examples(
        parser,
        "envs/run main python -m core devices trust jetson_tx2",
        "envs/run main python -m core devices check",
        "envs/run main python -m core devices prepare jetson_tx2 --environment tensorflow",
        "envs/run main python -m core devices run jetson_tx2 --environment tensorflow "
        "-- run RUN_FOLDER/spec.yaml --out RUN_FOLDER",
        "envs/run main python -m core devices stop RUN_FOLDER",
        "envs/run main python -m core devices clean jetson_tx2 --days 30",
    )


def _plan(parser: argparse.ArgumentParser) -> None:
    from core.planning import cli

    parser.description = (
        "Every run that these figures still need, its device and hours to go, and where the hours "
        "come from: its own finished epochs, finished runs like it, the profile of its device, or "
        "the paper. Nothing is run."
    )
    cli.add_arguments(parser)
    examples(
        parser,
        "envs/run main python -m core plan fig15a fig19",
        "envs/run main python -m core plan --all "
        "--configfile config/paper.yaml --config device=published",
        "envs/run main python -m core plan --check",
    )
    parser.set_defaults(command=cli.main)


def _claims(parser: argparse.ArgumentParser) -> None:
    from core.claims import cli

    parser.description = (
        "Each published statement of config/claims.yaml, what finished runs say of it, and a "
        "verdict. Reads what is there; nothing is run."
    )
    cli.add_arguments(parser)
    examples(
        parser,
        "envs/run main python -m core claims",
        "envs/run main python -m core claims --appendix appendix.md "
        "--configfile config/paper.yaml --config device=published",
    )
    parser.set_defaults(command=cli.main)


def _report(parser: argparse.ArgumentParser) -> None:
    from core.report import cli

    parser.description = (
        "Figures with the claims about them, every claim's verdict, and every run with where it "
        "came from: one HTML file that needs no network. Reads what is there; nothing is run."
    )
    cli.add_arguments(parser)
    examples(
        parser,
        "envs/run main python -m core report --out report.html",
    )
    parser.set_defaults(command=cli.command)


def _bundle(parser: argparse.ArgumentParser) -> None:
    from core.bundle import cli

    parser.description = (
        "Write results, specs, figures, logs, configuration and lists of packages into an archive "
        "(RO-Crate) from which figures, claims and report can be made elsewhere without training."
    )
    cli.add_bundle_arguments(parser)
    examples(
        parser,
        "envs/run main python -m core bundle --out campaign.tar.gz",
        "envs/run main python -m core bundle --out campaign.tar.gz --no-logs "
        "--configfile config/paper.yaml",
    )
    parser.set_defaults(command=cli.bundle)


def _verify(parser: argparse.ArgumentParser) -> None:
    from core.bundle import cli

    parser.description = (
        "Check every file of a bundle, and that results are of the specs they name."
    )
    cli.add_verify_arguments(parser)
    examples(
        parser,
        "envs/run main python -m core verify campaign.tar.gz --into there",
    )
    parser.set_defaults(command=cli.verify)


def _figure(parser: argparse.ArgumentParser) -> None:
    from core.figures import cli

    parser.description = (
        "Draw a figure as PDF and PNG, with the data behind it as CSV, from finished runs of one "
        "scale and device. Entry and stand-ins are written as in the configuration; Snakemake "
        "does that by itself."
    )
    cli.add_arguments(parser)
    examples(
        parser,
        "envs/run main python -m core figure --name mine --out mine.pdf --entry "
        """'{"kind": "curves", "y": ["test_loss"], "dataset": ["elpv"], "model": """
        """["efficientnet_lite0"], "device": "local", "schemes": ["full"]}' RUN_FOLDER""",
    )
    parser.set_defaults(command=cli.main)


def _measure(parser: argparse.ArgumentParser) -> None:
    from core.measure import cli

    parser.description = "What runs cost in energy and memory, and what measures it."
    cli.add_arguments(parser)


def _bench(parser: argparse.ArgumentParser) -> None:
    from core.bench import cli

    parser.description = (
        "Run a benchmark and print its numbers, their limits and which of them were exceeded. "
        "docs/figures.md, split.md, federated.md, devices.md and plan.md say what each shows. Some "
        "take minutes and want a quiet machine. `make bench` runs all."
    )
    cli.add_arguments(parser)
    examples(
        parser,
        "envs/run main python -m core bench --list",
        "envs/run main python -m core bench selector --out selector.json",
    )
    parser.set_defaults(command=cli.main)


def _pages(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write docs/commands.md of this checkout from the parsers, docs/expected.md from "
        "configuration and claims, and the README's pictures in docs/images from figures/, small "
        "enough for git. A figure that was not drawn is named with the command that makes it, and "
        "its picture stays as it is. `make pages` calls this."
    )
    examples(parser, "envs/run main python -m core pages")

    def command(args: argparse.Namespace) -> None:
        from core.pages.cli import write

        write(_parser())

    parser.set_defaults(command=command)


def _log_into(file: Path) -> None:
    """Messages go into a file too, with times. Raises StorageError."""
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)


class ProgressAwareHandler(logging.Handler):
    """Writes to stderr without tearing a tqdm bar that stands there."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # nobody reads it any more, which is no reason to end a run
            tqdm.write(self.format(record), file=sys.stderr)


def _exit_code_table() -> str:
    rows = [f"  {code:>3}  {meaning}" for code, meaning in exit_codes().items()]
    return "\n".join(["exit codes:", *rows])


def _missing(error: ModuleNotFoundError) -> str:
    return (
        f"Python package {error.name!r} is not in this environment; run the command through "
        "the project's own: envs/run main … or envs/run tensorflow …"
    )
