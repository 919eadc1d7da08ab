"""Checking YAML against the schemas of `core/schemas`, with errors that a person can act on."""

import difflib
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from core.errors import ConfigError

_NOWHERE = object()  # what a file says of a key that it does not have; null is a value

FOLDER = Path(__file__).parent / "schemas"


@cache
def load(name: str) -> dict[str, Any]:
    """A schema by the name before `.schema.yaml`."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.schema.yaml").read_text())
    return content


@cache
def _validator(name: str) -> Any:
    files = [
        (f.name, DRAFT202012.create_resource(load(f.name.split(".")[0]))) for f in FOLDER.iterdir()
    ]
    kinds = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            # JSON Schema takes 32.0 for an integer and has no word for not-a-number.
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: _is_number(value),
        }
    )
    strict = validators.extend(Draft202012Validator, type_checker=kinds)
    return strict(load(name), registry=Registry().with_resources(files))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check(content: Any, name: str, files: Sequence[Path], at: Sequence[str] = ()) -> None:
    """Raises ConfigError that names key, value, what is allowed and the file, for every mistake.

    files: where the content was read from, the last one winning; empty for the command line.
    at: key of the content in those files, where it is a part of them.
    """
    errors = sorted(_validator(name).iter_errors(content), key=lambda e: list(map(str, e.path)))
    if errors:
        lines = (line for e in errors for line in _explain(e, files, at))
        raise ConfigError("\n".join(dict.fromkeys(lines)))  # one error for each missing key


def read_yaml(path: Path) -> Any:
    """A YAML file. Raises ConfigError when it is missing or not YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None


def source(keys: Sequence[str], value: Any, files: Sequence[Path]) -> str:
    """Where a value was set: the last of `files` that says so, else the command line."""
    for file in reversed(files):
        content = read_yaml(file)
        for key in keys:
            content = _inside(content, key)
        if content is not _NOWHERE and content == value:
            here = Path.cwd()
            return str(file.relative_to(here) if file.is_relative_to(here) else file)
    return "--config on the command line" if files else "the content given"


def _inside(content: Any, key: str) -> Any:
    if isinstance(content, list) and key.isdigit() and int(key) < len(content):
        return content[int(key)]
    return content.get(key, _NOWHERE) if isinstance(content, dict) else _NOWHERE


def suggestion(word: str, known: Sequence[str]) -> str:
    """The known words, and the one that was probably meant."""
    close = difflib.get_close_matches(word, known, 1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"known: {', '.join(known)}{meant}"


def one_of(
    value: str, known: Sequence[str], what: str, keys: Sequence[str], files: Sequence[Path]
) -> None:
    """Raises ConfigError for a value that is none of those. what: in words. keys: where it is."""
    if value not in known:
        raise ConfigError(
            f"{source(keys, value, files)}: {'.'.join(keys)} = {value!r}: unknown {what} "
            f"({suggestion(value, known)})"
        )


def _explain(error: ValidationError, files: Sequence[Path], at: Sequence[str]) -> Iterator[str]:
    keys = [*at, *map(str, error.path)]
    where = ".".join(keys) or "top level"
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        for key in sorted(set(error.instance) - set(known)):
            file = source([*keys, key], error.instance[key], files)
            yield f"{file}: unknown key {'.'.join([*keys, key])!r} ({suggestion(key, known)})"
    elif error.validator == "required":
        missing = [k for k in error.validator_value if k not in error.instance]
        yield f"{source(keys, error.instance, files)}: {where}: missing {', '.join(missing)}"
    else:
        file = source(keys, error.instance, files)
        yield f"{file}: {where} = {error.instance!r}: {_allowed(error)}"


def _allowed(error: ValidationError) -> str:
    """What the schema allows, in words."""
    limit = error.validator_value
    match error.validator:
        case "enum":
            return f"must be one of {', '.join(map(str, limit))}"
        case "type":
            names = [limit] if isinstance(limit, str) else limit
            return f"must be of type {' or '.join(names)}{_hint(error.instance)}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            return f"must be {_range(error.schema)}"
        case _:
            return str(error.message)


def _hint(value: Any) -> str:
    """Why a number that somebody wrote may have arrived as text."""
    try:
        float(value)
    except (TypeError, ValueError):
        return ""
    if not isinstance(value, str):
        return ""
    return "; inside the braces of --config numbers are text (use a file), and YAML wants 1.0e-4"


def _range(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return " and ".join(f"{word} {schema[key]}" for key, word in words.items() if key in schema)
