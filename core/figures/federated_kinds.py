"""How a figure of federated training can be drawn, and from what. Imports no matplotlib."""

from collections.abc import Mapping
from typing import Any

from core.errors import ConfigError

# Each kind is the module of its name, with a function `draw`; the settings that its `vary` must
# name. A new kind is such a module, and a line here.
FEDERATED_KINDS: dict[str, tuple[str, ...]] = {
    "din_auc": (),
    "din_staleness": ("staleness",),
}


def check_federated_entry(entry: Mapping[str, Any]) -> None:
    """Raises ConfigError for an entry that its kind cannot draw, whatever was trained for it."""
    name = entry.get("kind")
    if name not in FEDERATED_KINDS:
        raise ConfigError(f"kind is {name!r}, allowed: {', '.join(FEDERATED_KINDS)}")
    varies = FEDERATED_KINDS[name]
    needs = ["kind", "schemes", "contexts", *(["vary"] if varies else [])]
    missing = [key for key in needs if key not in entry]
    surplus = [key for key in entry if key not in needs]
    if missing or surplus:
        wrong = f"no key {', '.join(missing)}" if missing else f"key {', '.join(surplus)}"
        raise ConfigError(f"{wrong}; kind {name} has the keys {', '.join(needs)}")
    if len(entry["contexts"]) != 1:
        raise ConfigError(f"contexts is {', '.join(entry['contexts'])}; kind {name} draws one")
    if varies and set(entry["vary"]) != set(varies):
        found = ", ".join(entry["vary"])
        raise ConfigError(f"vary has {found}; kind {name} varies {', '.join(varies)}")
