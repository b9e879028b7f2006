"""Sets the scales of random weights on drawn people: statistics of activations, never of labels.

Data-dependent initialisation (Mishkin and Matas 2016, "All you need is a good init"): a random layer keeps what it is
shown only if its outputs are neither all alike nor saturated.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from twominds.features.extractor import normalize_images
from twominds.records import ByteArray


def calibrate_videomae(model: nn.Module, clips: ByteArray) -> None:
    """Give each tubelet filter zero mean and unit variance over clips uint8 [N, 16, 224, 224, 3], outputs zero mean.

    A linear head on outputs that lie far from zero takes hundreds of steps to find anything else in them.
    """
    projection = next(module for module in model.modules() if isinstance(module, nn.Conv3d))
    with torch.no_grad():
        pixels = normalize_images(torch.from_numpy(clips))
        responses = projection(pixels.transpose(1, 2)).transpose(0, 1).flatten(1)
        std, mean = torch.std_mean(responses, dim=1, correction=0)
        scale = 1.0 / std.clamp(min=1e-6)
        projection.weight.mul_(scale[:, None, None, None, None])
        cast(Tensor, projection.bias).copy_(-mean * scale)
        tokens = cast(Tensor, cast(Any, model)(pixels).last_hidden_state)
        cast(Any, model).encoder.layer[-1].output.dense.bias -= tokens.mean(dim=(0, 1))


def calibrate_batch_norm(model: nn.Module, images: ByteArray) -> None:
    """Set the running statistics of every BatchNorm to those of images uint8 [N, H, W, 3], in one pass.

    In train mode each layer normalises with the batch's own statistics, so that the next one sees what it will see. By
    one thread: how sums are shared between several changes their last bits, and a seed makes the same bundle anywhere.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the passes
    model.train()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            model(normalize_images(torch.from_numpy(images)))
    finally:
        torch.set_num_threads(threads)
    model.eval()
    for norm in norms:
        norm.momentum = 0.1
