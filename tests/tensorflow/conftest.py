"""Threads of TensorFlow."""

import pytest
import tensorflow as tf

from core.training import threads


@pytest.fixture(scope="session", autouse=True)
def thread_counts() -> None:
    """Set once: TensorFlow takes no other counts after its first operation."""
    count = threads.resolve({"intra_op": 0, "inter_op": 0})
    tf.config.threading.set_intra_op_parallelism_threads(count["intra_op"])
    tf.config.threading.set_inter_op_parallelism_threads(count["inter_op"])
