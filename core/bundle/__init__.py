"""A campaign in one file: results and all that is needed to draw and to judge them elsewhere."""
