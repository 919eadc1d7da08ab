"""The former name of core.models.efficientnet_lite_keras, which tests/tensorflow/test_graph.py
still uses."""

from functools import partial

from core.models.efficientnet_lite_keras import efficientnet_lite

efficientnet_lite0 = partial(efficientnet_lite, width=1.0, depth=1.0)
