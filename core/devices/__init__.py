"""Boards over SSH: what is there, carrying a run to one, watching it, and bringing it back."""
