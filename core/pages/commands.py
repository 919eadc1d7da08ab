"""docs/commands.md, from the parsers: every verb, its arguments, defaults and examples."""

import argparse
import re
from collections.abc import Iterator

from core.arguments import Help, default_of
from core.errors import exit_codes

WIDTH = 100  # of usage lines

HEAD = """\
# Commands

`make pages` writes this page from the program itself; `--help` of each verb says the same. Every
command is typed in the project's folder, through one of its environments:

```
envs/run main python -m core VERB …
envs/run tensorflow python -m core VERB …
```

`tensorflow` is for runs, profiles and benchmarks of TensorFlow, `main` for all else. Snakemake
calls the same verbs.
"""


def page(parser: argparse.ArgumentParser) -> str:
    """The whole page, in Markdown."""
    verbs = _verbs(parser)
    lines = [HEAD, "| verb | what it does |", "|---|---|"]
    for name, summary, _ in verbs:
        lines.append(f"| [`{name}`](#{name}) | {_cell(summary)} |")
    lines += ["", "Before the verb:", "", *_arguments(parser), "", "## Exit codes", ""]
    lines += ["| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in exit_codes().items()]
    lines += ["", "What to do about a message: [troubleshooting.md](troubleshooting.md)."]
    for name, summary, verb in verbs:
        lines += _section(name, summary, verb, "##")
    return "\n".join(lines) + "\n"


def _section(name: str, summary: str, parser: argparse.ArgumentParser, level: str) -> Iterator[str]:
    """A verb, then the verbs below it."""
    yield from ("", f"{level} {name}", "", parser.description or f"{_sentence(summary)}.", "")
    yield from ("```", _usage(parser), "```")
    if arguments := list(_arguments(parser)):
        yield from ("", *arguments)
    if parser.epilog:
        title, *commands = parser.epilog.splitlines()
        yield from ("", _sentence(title), "", "```", *(line.strip() for line in commands), "```")
    for below, words, verb in _verbs(parser):
        yield from _section(f"{name} {below}", words, verb, level + "#")


def _verbs(parser: argparse.ArgumentParser) -> list[tuple[str, str, argparse.ArgumentParser]]:
    """Name, what it does in a line, and parser of each verb."""
    return [
        (choice.dest, choice.help or "", action.choices[choice.dest])
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    ]


def _usage(parser: argparse.ArgumentParser) -> str:
    """As `--help` begins, in one width whatever the terminal has."""
    formatter = Help(parser.prog, width=WIDTH)
    actions = [a for a in parser._actions if not isinstance(a, argparse._HelpAction)]
    formatter.add_usage(None, actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().strip()


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The table of arguments. Those that --help leaves out are left out, and so is --help."""
    formatter = Help(parser.prog, width=WIDTH)
    left_out = (argparse._SubParsersAction, argparse._HelpAction)
    shown = [
        action
        for action in parser._actions
        if action.help is not argparse.SUPPRESS and not isinstance(action, left_out)
    ]
    if not shown:
        return
    yield from ("| argument | default | meaning |", "|---|---|---|")
    for action in shown:
        default = default_of(action)
        words = re.sub(r" \(default: .*\)$", "", formatter._expand_help(action))
        mark = f"`{default}`" if default else "needed" if _needed(action) else ""
        yield f"| `{_name(action)}` | {mark} | {_cell(words)} |".replace("|  |", "| |")


def _name(action: argparse.Action) -> str:
    """With what is to be written after it."""
    if action.nargs == 0:
        return action.option_strings[0]
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    if action.choices is not None and action.metavar is None:
        value = f"{{{','.join(map(str, action.choices))}}}"
    several = " …" if action.nargs in ("*", "+", argparse.REMAINDER) else ""
    return " ".join([*action.option_strings[:1], f"{value}{several}"])


def _needed(action: argparse.Action) -> bool:
    return action.required and action.nargs not in ("*", argparse.REMAINDER)


def _cell(words: str) -> str:
    return words.replace("|", r"\|")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
