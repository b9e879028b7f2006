"""Networks in ONNX files: cut before their last layer when they are imported, run by onnxruntime."""

import importlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from torch import Tensor

from twominds.errors import BackboneError


class OnnxDescriptor:
    """`model.onnx`, which gives embeddings, and `head.safetensors`, which scores them; on the processor."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        """Loads both.

        Raises:
            BackboneError: onnxruntime can't read the network.
        """
        try:
            self._session = onnx_session(folder / "model.onnx", threads=threads)
        except Exception as error:  # onnxruntime's own, which have no base in common
            raise BackboneError(f"{folder / 'model.onnx'} can't be read: {error}") from error
        self._head = load_file(folder / "head.safetensors")
        entry = self._session.get_inputs()[0]
        self._input = str(entry.name)
        self._one_by_one = isinstance(entry.shape[0], int)  # exported for a batch of one

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> [B, D + S]: the embedding, and after it the scores."""
        pixels = np.ascontiguousarray(images.cpu().numpy())
        batches = np.split(pixels, len(pixels)) if self._one_by_one else [pixels]
        embedding = torch.from_numpy(np.concatenate([self._embed(batch) for batch in batches]))
        return torch.cat([embedding, embedding @ self._head["weight"].T + self._head["bias"]], dim=1)

    def _embed(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        found = cast("npt.NDArray[np.float32]", self._session.run(None, {self._input: pixels})[0])
        return found.reshape(len(pixels), -1)


def onnx_session(path: Path, *, threads: int | None = None) -> Any:
    """An ONNX network ready to run on the processor, with so many threads; None: as many as onnxruntime thinks best."""
    runtime = cast(Any, importlib.import_module("onnxruntime"))
    chosen: dict[str, Any] = {}
    if threads is not None:
        chosen["sess_options"] = runtime.SessionOptions()
        chosen["sess_options"].intra_op_num_threads = threads
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"], **chosen)


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
