"""The verb `figure`."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from core.figures import cli


def parsed(entry: str, stand_ins: str, out: Path, runs: list[Path]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    options = ["--name", "fig15a", "--entry", entry, "--stand-ins", stand_ins]
    options += ["--testing", "exclude", "--out", str(out)]
    return parser.parse_args([*options, *map(str, runs)])


def test_verb_writes_pdf_png_and_numbers(
    entry: dict[str, Any], four_runs: list[Path], stand_ins: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "figures" / "fig15a.pdf"
    assert cli.main(parsed(json.dumps(entry), json.dumps(stand_ins), out, four_runs)) == 0
    assert sorted(p.name for p in out.parent.iterdir()) == [
        "fig15a.csv",
        "fig15a.pdf",
        "fig15a.png",
    ]


@pytest.mark.parametrize(
    ("entry", "stand_ins", "message"),
    [
        ("{kind: curves}", "{}", "--entry is not JSON"),
        ("{}", "elpv", "--stand-ins is not JSON"),
        ("[1]", "{}", "--entry must be a JSON object, not '[1]'"),
    ],
)
def test_argument_that_is_no_json_object_is_named(
    tmp_path: Path, entry: str, stand_ins: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        cli.main(parsed(entry, stand_ins, tmp_path / "x.pdf", [tmp_path]))


def test_describing_the_verb_imports_no_matplotlib() -> None:
    code = "import sys, core.figures.cli; sys.exit('matplotlib' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
