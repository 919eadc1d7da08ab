"""Figures: pictures of finished runs. Nothing here trains, and matplotlib is imported late."""

# How a figure can be drawn: the kind in its entry, and the module that draws it. A new kind is
# a module with KEYS, `subjects` and `draw`, as in curves.py, and a line here.
KINDS = {
    "curves": "core.figures.curves",
    "bars": "core.figures.bars",
    "epochs": "core.figures.epochs",
    "selections": "core.figures.selections",
    "tradeoff": "core.figures.tradeoff",
    "solver": "core.figures.solver",
    "overhead_table": "core.figures.tables",
    "speedup_table": "core.figures.tables",
}
