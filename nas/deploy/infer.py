"""Runs the network in this folder on images, or on arrays saved by numpy.

    python infer.py IMAGE [IMAGE ...]      the three likeliest classes of each
    python infer.py INPUTS.npy             (N, ...) as the network takes it: prints its outputs

Needs numpy, Pillow and the runtime that card.json names (onnxruntime, openvino or torch);
card.json also says how an image becomes an input.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
Network = Callable[[Array], Array]
HERE = Path(__file__).resolve().parent
PIXELS = 50_000_000  # a larger image is not decoded


def load(folder: Path | str = HERE) -> tuple[Network, dict[str, Any]]:
    """The network, which maps inputs (N, ...) to outputs (N, ...), and its card."""
    card = json.loads((Path(folder) / "card.json").read_text(encoding="utf-8"))
    runtime = card["runtime"]
    return RUNTIMES[runtime["name"]](str(Path(folder) / card["file"]), runtime["options"]), card


def _onnxruntime(path: str, options: list[str]) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: session.run(None, {name: inputs})[0]


def _openvino(path: str, options: list[str]) -> Network:
    import openvino

    precision = {"INFERENCE_PRECISION_HINT": "bf16" if "bf16" in options else "f32"}
    network = openvino.compile_model(path, "CPU", precision)
    return lambda inputs: network([inputs])[0].copy()


def _torch(path: str, options: list[str]) -> Network:
    import torch

    network = torch.export.load(path).module()

    def run(inputs: Array) -> Array:
        with torch.inference_mode():
            found: Array = network(torch.from_numpy(inputs)).numpy()
            return found

    return run


def _tensorrt(path: str, options: list[str]) -> Network:
    import tensorrt
    import torch

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    engine = tensorrt.Runtime(logger).deserialize_cuda_engine(Path(path).read_bytes())
    context = engine.create_execution_context()
    first, last = engine.get_tensor_name(0), engine.get_tensor_name(engine.num_io_tensors - 1)

    def run(inputs: Array) -> Array:
        given = torch.from_numpy(inputs).cuda()
        context.set_input_shape(first, tuple(given.shape))
        said = torch.empty(tuple(context.get_tensor_shape(last)), device="cuda")
        context.set_tensor_address(first, given.data_ptr())
        context.set_tensor_address(last, said.data_ptr())
        context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
        found: Array = said.cpu().numpy()
        return found

    return run


RUNTIMES: dict[str, Callable[[str, list[str]], Network]] = {
    "onnxruntime": _onnxruntime, "openvino": _openvino, "torch": _torch, "tensorrt": _tensorrt,
}  # fmt: skip


def prepared(image: Image.Image, card: dict[str, Any]) -> Array:
    """An image as the network takes it: the middle square, resized, normalised, (C, H, W).

    Where the graph normalises, it takes the square's pixels: uint8, (H, W, C).
    """
    about = card["preprocessing"]
    size = about["size"]
    if image.width * image.height > PIXELS:
        raise ValueError(f"the image has {image.width}x{image.height} pixels; {PIXELS:,} at most")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if image.size != (size, size):
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    if about.get("in_graph"):
        return np.asarray(image, np.uint8)
    pixels = np.asarray(image, np.float32) / 255
    pixels = (pixels - np.float32(about["mean"])) / np.float32(about["std"])
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def run(network: Network, inputs: Array) -> Array:
    """Outputs (N, ...) of inputs (N, ...)."""
    return network(np.ascontiguousarray(inputs))


def probabilities(outputs: Array) -> Array:
    """Softmax over the last axis."""
    shifted = np.exp(outputs - outputs.max(-1, keepdims=True))
    chances: Array = shifted / shifted.sum(-1, keepdims=True)
    return chances


def main(paths: list[str]) -> str | None:
    """Prints what the network says of each file."""
    if not paths:
        return __doc__
    network, card = load()
    for path in paths:
        if path.endswith(".npy"):
            inputs = np.load(path, allow_pickle=False)
            kind = np.uint8 if (card.get("preprocessing") or {}).get("in_graph") else np.float32
            print(json.dumps(run(network, inputs.astype(kind)).tolist()))
            continue
        if not card.get("preprocessing"):
            return "this network takes arrays, not images: python infer.py INPUTS.npy"
        with Image.open(path) as image:
            chances = probabilities(run(network, prepared(image, card)[None]))[0]
        best = np.argsort(-chances)[:3]
        said = "  ".join(f"{card['classes'][i]} {chances[i]:.1%}" for i in best)
        print(f"{path}: {said}")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
