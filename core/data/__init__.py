"""Data sets and pretrained weights: a catalog, fetching, preparing, opening.

`fetch.fetch` brings one entry of catalog.yaml to a folder; `images.open_split` and
`weights.open_weights` are how trainers read it. No framework is imported at module top.
"""
