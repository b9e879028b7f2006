"""A small random network as an ONNX file, which ends in a Gemm as those of face descriptors do.

It stands in for descriptors of which only ONNX files are read; two convolutions, not their architecture.
"""

import importlib
from pathlib import Path
from typing import Any, cast

import numpy as np

_CHANNELS = 32


def write_onnx_network(file: Path, *, dim: int, scores: int, seed: int) -> None:
    """Writes images [B, 3, H, W] -> two strided convolutions, their mean [B, D] -> Gemm [B, S] (opset 11)."""
    onnx = cast(Any, importlib.import_module("onnx"))
    rng = np.random.default_rng([seed, 7])
    shapes = {
        "first": (_CHANNELS, 3, 8, 8),
        "second": (dim, _CHANNELS, 4, 4),
        "weight": (scores, dim),
        "bias": (scores,),
    }
    tensors = [
        onnx.numpy_helper.from_array(
            (rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32), name
        )
        for name, shape in shapes.items()
    ]
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("Conv", ["input", "first"], ["a"], strides=[4, 4]),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "second"], ["c"], strides=[4, 4]),
        node("Relu", ["c"], ["d"]),
        node("GlobalAveragePool", ["d"], ["e"]),
        node("Flatten", ["e"], ["embedding"]),
        node("Gemm", ["embedding", "weight", "bias"], ["output"], transB=1),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "descriptor",
        [value("input", kind, ["batch", 3, "height", "width"])],
        [value("output", kind, ["batch", scores])],
        tensors,
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=7), str(file))
