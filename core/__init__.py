"""Training at the edge: what to train (ElasticTrainer) and where (split training)."""

from pathlib import Path

PROJECT = Path(__file__).parents[1]  # the checkout; where there is `core` alone, its folder

__version__ = "0.1.0"

# Part of every run spec. Raise it when a change in `core` alters what a run computes:
# Snakemake cannot see edits in `core`, a new recipe is how they reach finished runs.
RECIPE = 2
