"""Split training: the first blocks of a network on the edge, the others in the cloud."""
