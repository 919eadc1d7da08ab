"""Data sets and pretrained weights: a catalog, fetching, preparing, opening.

`fetch.fetch` brings one entry of catalog.yaml to a folder; `images.open_split` is how trainers read
a data set, with the sizes of its files checked, and `weights.open_weights` compares the checksum of
weights before a run. No framework is imported at module top.
"""
