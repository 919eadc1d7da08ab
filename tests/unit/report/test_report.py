import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from core.planning.configuration import read
from core.report.page import page


class Page(HTMLParser):
    """What a browser would load, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[str] = []
        self.words: list[str] = []
        self.depth = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.links += [str(found[key]) for key in ("href", "src") if key in found]
        if tag == "img":
            self.images.append(str(found["alt"]))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def run(folder: Path, scale: str, timing: str, hours: float) -> None:
    folder.mkdir(parents=True)
    spec = {"scale": scale, "seed": 0}
    content = {
        "spec": spec,
        "provenance": {"device": "local", "kind": timing, "digest": "fedcba9876543210"},
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
        "commit": "0123456789abcdef",
        "machine": {"processor": "A <fast> one"},
        "resumed": 2,
        "peak_mib": 512.4,
    }
    (folder / "result.json").write_text(json.dumps(content))
    (folder / "epochs.csv").write_text(
        f"epoch,training_s,snapshot_s,testing_s\n1,{3600 * hours},0,0\n"
    )


@pytest.fixture
def parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "results/demo/local/split/task/lte/one", "demo", "emulated", 0.5)
    run(tmp_path / "results/demo/local/split/task/lte/two", "demo", "measured", 0.25)
    (tmp_path / "results/demo/local/split/task/lte/broken").mkdir()
    (tmp_path / "results/demo/local/split/task/lte/broken/result.json").write_text("{")
    (tmp_path / "figures").mkdir()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "figures/fig15a.png")
    (tmp_path / "figures/fig15a.csv").write_text("a,b\n1,2\n")
    found = Page()
    found.feed(page(read([], [])))
    return found


def test_the_page_needs_nothing_but_itself(parsed: Page):
    assert parsed.links
    assert all(link.startswith("data:") for link in parsed.links)
    assert parsed.images == ["Figure fig15a"]
    (table,) = [link for link in parsed.links if link.startswith("data:text/csv")]
    assert base64.b64decode(table.partition(",")[2]) == b"a,b\n1,2\n"


def test_it_says_what_was_measured_and_what_was_not(parsed: Page):
    assert "from 2 finished runs: 1 emulated, 1 measured." in parsed.text
    assert "Scales: demo (2). Training and testing together took 0.75 h." in parsed.text
    assert "111 claims whose runs are not there" in parsed.text
    assert "Machines: A <fast> one." in parsed.text  # escaped, and read back
    assert "Software: torch 2.13.0, numpy 2.4.6." in parsed.text
    assert "Not made: fig15a_ego, fig15b" in parsed.text


def test_each_run_has_its_line_and_each_figure_its_claims(parsed: Page):
    line = "demo local emulated 0.500 2 512 0123456789ab fedcba987654"
    assert f"results/demo/local/split/task/lte/one {line}" in parsed.text
    assert parsed.text.count("ElasticTrainer of ResNet50 on CUB-200 reaches 68.0 %") == 2
