"""One page about everything that was made here, in one file that needs no network."""
