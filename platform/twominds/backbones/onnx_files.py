"""Networks as ONNX, which onnxruntime runs: files that are cut before their last layer, and torch's on a processor."""

import importlib
import io
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from torch import Tensor, nn

from twominds.errors import BackboneError


class OnnxNetwork:
    """An ONNX network, run by onnxruntime on the processor, on as many images at once as torch has threads.

    Each image goes by itself: its result does not depend on those beside it, files that were exported for one image
    serve, too, and threads with an image each are done sooner than threads that share one.
    """

    def __init__(self, model: Path | bytes) -> None:
        """Loads a file, or the content of one.

        Raises:
            BackboneError: onnxruntime can't read it.
        """
        runtime = cast(Any, importlib.import_module("onnxruntime"))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        source = str(model) if isinstance(model, Path) else model
        try:
            self._session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own, which have no base in common
            name = model if isinstance(model, Path) else "A network"
            raise BackboneError(f"{name} can't be read: {error}") from error
        self._input = str(self._session.get_inputs()[0].name)
        self._threads = ThreadPoolExecutor(torch.get_num_threads())

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> [B, ...], the first of what the network gives."""
        pixels = np.ascontiguousarray(images.cpu().numpy())
        return torch.from_numpy(np.concatenate(list(self._threads.map(self._one, np.split(pixels, len(pixels))))))

    def _one(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return self._session.run(None, {self._input: image})[0]


class OnnxDescriptor:
    """`model.onnx`, which gives embeddings, and `head.safetensors`, which scores them."""

    def __init__(self, folder: Path) -> None:
        """Loads both.

        Raises:
            BackboneError: onnxruntime can't read the network.
        """
        self._network = OnnxNetwork(folder / "model.onnx")
        self._head = load_file(folder / "head.safetensors")

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> [B, D + S]: the embedding, and after it the scores."""
        embedding = self._network(images).flatten(1)
        return torch.cat([embedding, embedding @ self._head["weight"].T + self._head["bias"]], dim=1)


def image_network(network: nn.Module, image_px: int, device: str) -> Callable[[Tensor], Tensor]:
    """A network as it is fastest on the device: on the processor by onnxruntime.

    Eight images on two cores: EfficientNet-B0 6 ms an image (torch 15), MobileViT 35 ms (105), YOLOv8n 53 ms (86).

    Args:
        network: In evaluation mode; images [B, 3, `image_px`, `image_px`] -> [B, ...], or a tuple that begins with it.
        image_px: Side of its images, in pixels.
        device: Where it computes.
    """
    if device != "cpu":
        moved = network.to(device)

        def first(images: Tensor) -> Tensor:
            given = moved(images)
            return given if isinstance(given, Tensor) else given[0]

        return first
    translated = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about this way of doing it, and of shapes that are the same for all images
        cast(Any, torch.onnx).export(
            network,
            (torch.zeros(1, 3, image_px, image_px),),
            translated,
            dynamo=False,  # the newer way needs one package more, and every process would wait for it longer
        )
    return OnnxNetwork(translated.getvalue())


def cut_head(file: Path, target: Path) -> tuple[Tensor, Tensor]:
    """Writes an ONNX network to `target` without its last layer, a Gemm, whose input then is the output.

    Returns:
        The last layer's weight [S, D] and bias [S].

    Raises:
        BackboneError: the file is no ONNX network, or does not end in a Gemm with weights of its own.
    """
    onnx = cast(Any, importlib.import_module("onnx"))
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, of a package that onnx brings
        raise BackboneError(f"{file} is no ONNX file: {error}") from error
    graph = model.graph
    last = next((node for node in graph.node if graph.output[0].name in node.output), None) if graph.output else None
    if last is None or last.op_type != "Gemm":
        raise BackboneError(f"{file}: its last layer is {'missing' if last is None else last.op_type}, not a Gemm.")
    weight, bias = _weights(onnx, graph, last, file)
    graph.node.remove(last)
    embedding = onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None)
    del graph.output[:]
    graph.output.append(embedding)
    onnx.save(model, str(target))
    return weight, bias


def _weights(onnx: Any, graph: Any, gemm: Any, file: Path) -> tuple[Tensor, Tensor]:
    """Weight and bias of alpha A B + beta C, as a linear layer has them."""
    given = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    if len(gemm.input) != 3 or any(name not in given for name in gemm.input[1:]):
        raise BackboneError(f"{file}: its last layer has no weight and bias of its own.")
    weight, bias = (torch.from_numpy(np.array(given[name], np.float32)) for name in gemm.input[1:])
    flags = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in gemm.attribute}
    if not flags.get("transB", 0):
        weight = weight.T
    return flags.get("alpha", 1.0) * weight, flags.get("beta", 1.0) * bias
