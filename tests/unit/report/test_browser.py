"""The report in a real browser, without a window and without a network."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from core.planning.configuration import read
from core.report.page import page

CHROMIUM = shutil.which("chromium")
# The proxy is a port at which nothing listens: whatever the browser asks for goes no further.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --allow-file-access-from-files --proxy-server=127.0.0.1:9 --proxy-bypass-list=<-loopback>"
    " --enable-logging=stderr --virtual-time-budget=5000 --dump-dom"
).split()
DESKTOP, PHONE = 1200, 390  # pixels across

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

# Says of each frame what a reader sees: of an element its text, and whether it takes room.
LOOK = """
<script>
  const sees = element => element.checkVisibility() && element.getBoundingClientRect().height > 5;
  const look = page => ({
    headline: [...page.querySelectorAll("h1")].filter(sees).map(e => e.textContent),
    figures: [...page.images].filter(e => sees(e) && e.naturalWidth > 100).map(e => e.alt),
    verdicts: [...page.querySelectorAll(".verdict")].filter(sees).map(e => e.textContent),
    beyond: page.documentElement.scrollWidth - page.documentElement.clientWidth,
  });
  onload = () => {
    const seen = [...document.querySelectorAll("iframe")].map(f => look(f.contentDocument));
    document.body.dataset.seen = JSON.stringify(seen);
  };
</script>
"""


class Shown(NamedTuple):
    """seen: of each frame. console: lines that pages wrote there. asked: addresses that they wanted
    from a network."""

    seen: list[dict[str, Any]]
    console: list[str]
    asked: list[str]


def browse(folder: Path, file: str) -> Shown:
    """Load a file of a folder, as wide as a screen and as a phone."""
    frames = (f'<iframe src="{file}" width="{each}" height="800">' for each in (DESKTOP, PHONE))
    (folder / "frames.html").write_text("</iframe>".join(frames) + "</iframe>" + LOOK)
    own = [
        f"--user-data-dir={folder / 'browser'}",
        f"--log-net-log={folder / 'net.json'}",
        f"--window-size={2 * DESKTOP},1000",
    ]
    command = [str(CHROMIUM), *FLAGS, *own, (folder / "frames.html").as_uri()]
    home = os.environ | {"HOME": str(folder)}
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stdout[:2000] + done.stderr
    lines = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Shown(json.loads(html.unescape(found[1])), lines, asked(folder / "net.json"))


def asked(log: Path) -> list[str]:
    """What pages asked for, by the browser's log of its network. What a browser asks for by itself,
    such as the time, has no origin."""
    content = json.loads(log.read_text(encoding="utf-8"))
    start = content["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    begun = [event.get("params", {}) for event in content["events"] if event["type"] == start]
    of_pages = [each for each in begun if each.get("initiator", "not an origin") != "not an origin"]
    wanted = [each["url"] for each in of_pages]
    return [url for url in wanted if not url.startswith(("file:", "data:"))]


def test_the_report_of_a_campaign_is_whole_on_a_screen_and_on_a_phone(campaign: Path) -> None:
    (campaign / "report.html").write_text(page(read([], [])), encoding="utf-8")
    shown = browse(campaign, "report.html")
    assert shown.console == []
    assert shown.asked == []
    assert len(shown.seen) == 2
    for seen in shown.seen:
        assert seen["headline"] == ["Training at the edge: report"]
        assert seen["figures"] == ["Figure fig15a"]
        # Four of Figure 15a, twice, and what else these runs tell of; all that have their runs.
        assert seen["verdicts"].count("not comparable") == len(seen["verdicts"]) > 8
        assert seen["beyond"] == 0  # nothing to scroll to the side


def test_what_a_page_says_on_the_console_and_asks_of_the_network_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        "<h1>Bad</h1><img src='http://report.example.org/picture.png'>"
        "<script>console.error('something is wrong')</script>"
        "<div style='width: 800px; height: 10px'></div>"
    )
    shown = browse(tmp_path, "bad.html")
    assert any("something is wrong" in line for line in shown.console)
    assert set(shown.asked) == {"http://report.example.org/picture.png"}
    assert [seen["headline"] for seen in shown.seen] == [["Bad"], ["Bad"]]
    assert [seen["figures"] for seen in shown.seen] == [[], []]
    assert [seen["beyond"] > 0 for seen in shown.seen] == [False, True]
