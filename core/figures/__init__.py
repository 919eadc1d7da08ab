"""Figures: pictures of finished runs. Nothing here trains, and matplotlib is imported late."""
