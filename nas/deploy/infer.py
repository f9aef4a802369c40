"""Runs the network in this folder on images, or on arrays saved by numpy.

    python infer.py IMAGE [IMAGE ...]      the three likeliest classes of each
    python infer.py INPUTS.npy             (N, ...) as the network takes it: prints its outputs

Needs numpy, Pillow and the runtime that card.json names (onnxruntime, openvino or torch);
card.json also says how an image becomes an input.
"""

import json
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

Array = np.ndarray[Any, Any]
Network = Callable[[Array], Array]
HERE = Path(__file__).resolve().parent
PIXELS = 50_000_000  # a larger image is not decoded
# What Pillow and numpy raise on broken bytes.
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError,
              OverflowError, MemoryError, NotImplementedError, struct.error, zlib.error,
              Image.DecompressionBombError)  # fmt: skip


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


def upright(image: Image.Image) -> Image.Image:
    """The image as its camera was held; one whose EXIF cannot be read is taken as it lies."""
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError,
            OverflowError, struct.error, AttributeError):  # fmt: skip
        return image


def coloured(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, numbers of 16 bits by their upper eight.

    Raises: ValueError where its numbers have more bits, and nobody says what white is.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels have 32 bits; save it with 8 or 16")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are fractions; save it with 8 or 16 bits")
    return image.convert("RGB")


def prepared(image: Image.Image, card: dict[str, Any]) -> Array:
    """An image as the network takes it: the middle square, resized, normalised, (C, H, W).

    Where the graph normalises, it takes the square's pixels: uint8, (H, W, C).
    """
    about = card["preprocessing"]
    size = about["size"]
    if image.width * image.height > PIXELS:
        raise ValueError(f"the image has {image.width}x{image.height} pixels; {PIXELS:,} at most")
    image = coloured(upright(image))
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


def image_of(path: str, card: dict[str, Any]) -> Array:
    """An image file as the network takes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on odd but readable files
        with Image.open(path) as image:
            return prepared(image, card)


def arrays_of(path: str, card: dict[str, Any]) -> Array:
    """Inputs that numpy saved. Raises: ValueError where they are of another shape."""
    inside = bool((card.get("preprocessing") or {}).get("in_graph"))
    inputs = np.load(path, allow_pickle=False)
    channels, *sides = card["input"]
    wanted = (*sides, channels) if inside else (channels, *sides)
    if inputs.ndim != len(wanted) + 1 or inputs.shape[1:] != wanted:
        raise ValueError(f"it is {inputs.shape}, the network takes (N, {str(wanted)[1:-1]})")
    found: Array = inputs.astype(np.uint8 if inside else np.float32)
    return found


def likeliest(outputs: Array, card: dict[str, Any]) -> str:
    """The three likeliest classes in words, numbered where they have no names."""
    chances, names = probabilities(outputs), card["classes"]
    best = [int(i) for i in np.argsort(-chances)[:3]]
    return "  ".join(f"{names[i] if i < len(names) else i} {chances[i]:.1%}" for i in best)


def main(paths: list[str]) -> str | None:
    """Prints what the network says of each file."""
    if not paths:
        return __doc__
    network, card = load()
    broken = 0
    for path in paths:
        images = not path.endswith(".npy")
        if images and not card.get("preprocessing"):
            return "this network takes arrays, not images: python infer.py INPUTS.npy"
        try:
            inputs = image_of(path, card)[None] if images else arrays_of(path, card)
        except UNREADABLE as error:  # the other files are looked at all the same
            why = " ".join(str(error).split()) or type(error).__name__
            print(f"{path}: cannot be read: {why}", file=sys.stderr)
            broken += 1
            continue
        outputs = run(network, inputs)
        print(f"{path}: {likeliest(outputs[0], card)}" if images else json.dumps(outputs.tolist()))
    return f"{broken} of {len(paths)} could not be read" if broken else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
