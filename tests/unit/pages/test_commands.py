import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import PROJECT
from core.arguments import Parser, examples
from core.cli import _parser
from core.pages.commands import page


def verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every verb and every verb below one, with its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield below.prog.removeprefix("python -m core "), below
                yield from verbs(below)


VERBS = dict(verbs(_parser()))


def test_the_page_says_what_the_parsers_say():
    written = (PROJECT / "docs/commands.md").read_text(encoding="utf-8")
    assert written == page(_parser()), "docs/commands.md differs from the parsers: run `make pages`"


def test_the_page_is_the_same_in_any_terminal_and_has_no_place_of_this_machine(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = page(_parser())
    assert text == (PROJECT / "docs/commands.md").read_text(encoding="utf-8")
    places = (str(PROJECT), str(Path.home()), sys.prefix, str(Path.cwd()))
    assert [place for place in places if place in text] == []
    assert "| `--book BOOK` | `config/claims.yaml` | file of claims |" in text


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_its_section_with_all_that_it_takes(name: str):
    sections = re.split(r"^##+ ", (PROJECT / "docs/commands.md").read_text(), flags=re.MULTILINE)
    (section,) = [part for part in sections if part.startswith(f"{name}\n")]
    for action in VERBS[name]._actions:
        if isinstance(action, argparse._HelpAction) or action.help is argparse.SUPPRESS:
            continue
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, f"{name}: {action.dest} has no help"
            word = (action.option_strings or [str(action.metavar or action.dest)])[0]
            assert re.search(rf"^\| `{word}\b.*` \|", section, re.MULTILINE), word


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.epilog])
def test_every_example_is_understood(name: str):
    for command in str(VERBS[name].epilog).splitlines()[1:]:
        words = shlex.split(command)
        assert words[0] == "envs/run"
        assert words[2:5] == ["python", "-m", "core"]
        assert " ".join(words[5:]).startswith(name)
        _parser().parse_args(words[5:])


def test_a_default_is_said_once_and_nothing_is_no_default():
    parser = Parser(prog="python -m core")
    parser.description = "Words."
    parser.add_argument("--a", default=0.5, help="a part")
    parser.add_argument("--b", default=3, help="told (default: three)")
    parser.add_argument("--c", help="a | b")
    parser.add_argument("--d", type=Path, default=PROJECT / "config/x.yaml", help="100%% so")
    verb = parser.add_subparsers().add_parser("verb", help="do it")
    examples(verb, "one", "two")
    text = parser.format_help()
    assert "a part (default: 0.5)" in text
    assert "told (default: three)\n" in text
    assert "a | b\n" in text
    assert "100% so (default: config/x.yaml)" in text
    assert "examples:\n  one\n  two\n" in verb.format_help()
    made = page(parser)
    assert "| `--a A` | `0.5` | a part |" in made
    assert "| `--b B` | `3` | told |" in made
    assert r"| `--c C` | | a \| b |" in made
    assert "## verb\n\nDo it.\n\n```\npython -m core verb\n```\n" in made
    assert made.endswith("```\n\nExamples:\n\n```\none\ntwo\n```\n")
