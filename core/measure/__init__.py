"""What a run costs in energy, memory and utilisation: docs/measure.md.

Importing it reads no library, as Snakemake plans with `core.measure.settings` in an interpreter of
its own.
"""


def sensors() -> list[str]:
    """A line for each sensor of this machine, or why one that is there cannot be used."""
    from core.measure import meters

    return meters.sensors()
