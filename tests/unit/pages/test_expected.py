import re

import pytest

from core import PROJECT
from core import config as settings
from core.pages.expected import page
from core.planning.configuration import read

WRITTEN = (PROJECT / "docs/expected.md").read_text(encoding="utf-8")


def test_the_page_says_what_configuration_and_claims_say():
    assert page() == WRITTEN, "docs/expected.md differs from config/: run `make pages`"


def test_every_target_has_its_row():
    config = read([], [])
    names = [*settings.figures(config), *settings.targets(config)]
    assert re.findall(r"^\| `(\w+)` \|", WRITTEN, re.MULTILINE) == names


def test_every_claim_is_there():
    claims = (PROJECT / "config/claims.yaml").read_text(encoding="utf-8")
    statements = re.findall(r"^  statement: (.*)$", claims, re.MULTILINE)
    assert len(statements) > 100
    assert [s for s in statements if f"| {s.strip(chr(34))} |" not in WRITTEN] == []


@pytest.mark.parametrize(
    "row",
    [
        "| `fig15a` | Figure 15a | 4 | 9.3 h on jetson_tx2 | [4](#fig15a) |",
        "| `fig16a_ego` | Figure 16a, ElasticTrainer alone | 1 | 30.1 h on raspberry_pi_4b | |",
        "| `table2` | Table 2 | 12 | 31.5 h on jetson_tx2 | [9](#table2) |",
        "| `fig15ad` | Figure 15a, d | 4 | 9.3 h on jetson_tx2 | 4 |",
        "| `split_profile` | | | | |",
    ],
)
def test_hours_are_those_that_were_read_off_the_paper(row: str):
    assert f"\n{row}\n" in WRITTEN
