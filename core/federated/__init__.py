"""Vertical federated training: parties hold different columns of the same users' data, a server
holds the labels and the upper network. Wire, replay, codecs and link are those of core.split."""
