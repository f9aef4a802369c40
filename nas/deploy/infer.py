"""Runs model.onnx, the network in this folder, on images or on arrays saved by numpy.

    python infer.py IMAGE [IMAGE ...]      the three likeliest classes of each
    python infer.py INPUTS.npy             (N, ...) as the network takes it: prints its outputs

Needs numpy, Pillow and onnxruntime; card.json says how an image becomes an input.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

Array = np.ndarray[Any, Any]
HERE = Path(__file__).resolve().parent


def load(folder: Path | str = HERE) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """The session and the card of a packaged network."""
    card = json.loads((Path(folder) / "card.json").read_text(encoding="utf-8"))
    path = str(Path(folder) / "model.onnx")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), card


def prepared(image: Image.Image, card: dict[str, Any]) -> Array:
    """An image as the network takes it, (C, H, W): the middle square, resized, normalised."""
    about = card["preprocessing"]
    size = about["size"]
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if image.size != (size, size):
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(image, np.float32) / 255
    pixels = (pixels - np.float32(about["mean"])) / np.float32(about["std"])
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def run(session: onnxruntime.InferenceSession, inputs: Array) -> Array:
    """Outputs (N, ...) of inputs (N, ...)."""
    outputs: Array = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return outputs


def probabilities(outputs: Array) -> Array:
    """Softmax over the last axis."""
    shifted = np.exp(outputs - outputs.max(-1, keepdims=True))
    chances: Array = shifted / shifted.sum(-1, keepdims=True)
    return chances


def main(paths: list[str]) -> str | None:
    """Prints what the network says of each file."""
    session, card = load()
    for path in paths:
        if path.endswith(".npy"):
            inputs = np.load(path, allow_pickle=False).astype(np.float32)
            print(json.dumps(run(session, inputs).tolist()))
            continue
        if not card.get("preprocessing"):
            return "this network takes arrays, not images: python infer.py INPUTS.npy"
        with Image.open(path) as image:
            chances = probabilities(run(session, prepared(image, card)[None]))[0]
        best = np.argsort(-chances)[:3]
        said = "  ".join(f"{card['classes'][i]} {chances[i]:.1%}" for i in best)
        print(f"{path}: {said}")
    return None if paths else __doc__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
