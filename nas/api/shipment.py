"""A trial on its way into a package: which weights, what file, what runs it, how far it agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.api.files import file_of, restored
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.finished import Finished
from nas.core.trial import Trained, Trial
from nas.hardware.device import Device, attached
from nas.hardware.runtimes import KINDS, Opened, parse

if TYPE_CHECKING:
    from torch import nn

    from nas.deploy.formats import Written
    from nas.deploy.parity import Parity
    from nas.evaluate.place import Place

COMPARED = 256  # validation images of the gate


@dataclass(frozen=True)
class Form:
    """What a point is to be written as.

    Args:
        format: `onnx`, `pt2`, `openvino` or `tensorrt`.
        runtime: what runs it, `NAME[:OPTION+OPTION]`; the study's where it can, else the format's.
        int8: whether the axis `bitwidth` turns it into int8, as if it had been searched so.
        preprocess_in_graph: whether the graph normalises images itself.
        searched: whether the weights are the search's, even where `nas train` left better ones.
        images: whether validation images go into the package, for `nas verify`; noise does if not.
    """

    format: str = "onnx"
    runtime: str | None = None
    int8: bool = False
    preprocess_in_graph: bool = False
    searched: bool = False
    images: bool = True


@dataclass(frozen=True)
class Shipment:
    """A trial on its way into a package; each part is made once, when it is asked for.

    Args:
        place: the study's. trial: which. done: its finished training, or None for the search's.
        form: as what. folder: for files under way.
    """

    place: Place
    trial: Trial
    done: Finished | None
    form: Form
    folder: Path
    twin_files: dict[str, Path] = field(default_factory=dict)

    @cached_property
    def device(self) -> Device:
        """The study's device under the runtime that runs the file."""
        from nas.deploy.formats import FORMATS, runtime_for

        own = self.place.device()
        if self.form.runtime is not None:
            asked = parse(self.form.runtime, own.kind)
            names = FORMATS[self.form.format]
            if asked.name not in names:
                raise NasError(
                    f"{asked.name} does not run the format {self.form.format}",
                    f"type --runtime {' or '.join(names)}, or another --format",
                )
        else:
            asked = own.engine
        here = own.address is not None or own.kind in KINDS[asked.name]
        found = runtime_for(self.form.format, asked, own.kind if here else "cpu")
        return replace(own, runtime=found.name, options=found.options)

    @cached_property
    def searched(self) -> Place:
        """Where the form is a point of: the study, joined by the axis bitwidth for `int8`."""
        spec = self.place.spec
        if not self.form.int8 or "bitwidth" in spec.space.split("+"):
            return self.place
        return replace(self.place, spec=replace(spec, space=f"{spec.space}+bitwidth"))

    @cached_property
    def architecture(self) -> Architecture:
        """The point, with int8 chosen where it is asked for."""
        if not self.form.int8:
            return self.trial.architecture
        choices = {**self.trial.architecture.choices, "bitwidth.weights": "int8"}
        return self.searched.space.repair(choices)

    @cached_property
    def own(self) -> bool:
        """Whether this is the form that the study searched: its runtime, and no int8 added."""
        same = self.device.engine == self.place.device().engine
        return same and self.architecture.choices == self.trial.architecture.choices

    @cached_property
    def said(self) -> str:
        """The form in words."""
        extra = " in int8" if self.form.int8 else ""
        return f"{self.form.format}{extra} under {self.device.engine}"

    @cached_property
    def module(self) -> nn.Module:
        """The trained module, with the weights that ship."""
        return restored(self.place, self.trial, self.done.weights if self.done else None)

    @cached_property
    def deployed(self) -> nn.Module:
        """The trained module as it ships: merged and folded."""
        from nas.evaluate.modules import deployed_of

        return deployed_of(self.searched, self.architecture, self.module)

    @cached_property
    def onnx(self) -> Path:
        """The point's ONNX file with all that its axes do to files."""
        from nas.evaluate.modules import write_again

        plain = replace(self.device, runtime="onnxruntime", options=())
        if self.architecture.choices == self.trial.architecture.choices:
            kept = self.done.file if self.done else None
            if kept is not None and kept.endswith(".onnx") and self.place.artifacts.holds(kept):
                return self.place.artifacts.path(kept)
            if self.done is None:
                return file_of(self.place.spec, self.place.artifacts, self.trial, plain)[0]
        stem = self.folder / "again"
        return write_again(self.searched, self.architecture, self.module, stem, plain).path

    @cached_property
    def written(self) -> Written:
        """The files in the format asked for. Raises: NasError where the form has none."""
        from nas.deploy.formats import from_onnx, preprocessing

        form, task = self.form, self.place.task
        if form.preprocess_in_graph and (form.format == "pt2" or task.normalisation is None):
            why = "pt2 takes what training took" if task.normalisation else "no images are trained"
            raise NasError(f"--preprocess-in-graph: {why}", "leave it out, or type --format onnx")
        if form.format == "pt2":
            return self._program()
        source = self.onnx
        if form.preprocess_in_graph:
            about = task.normalisation or {}
            source = self.folder / "images.onnx"
            mean, std = list(about["mean"]), list(about["std"])
            preprocessing(self.onnx, source, mean, std, task.classes)
        return from_onnx(source, form.format, self.folder, self.device.engine)

    def _program(self) -> Written:
        """The network as a torch program, with the int8 of its ONNX file where that has any."""
        from nas.deploy.formats import program

        shape, engine = self.place.spec.task.input, self.device.engine
        if not self.searched.pipeline(self.architecture).writes:
            return program(self.deployed, shape, self.folder, engine)
        from nas.transforms.quantize.program import in_torch

        module = in_torch(self.deployed, self.onnx)
        found = program(module, shape, self.folder, engine)
        if all(value.is_floating_point() for value in module.parameters()):
            return found  # every layer was left as it is
        about = f"torch program, int8 codes, computed in {engine.precision}"
        return replace(found, precision="int8", about=about)

    @cached_property
    def run(self) -> Opened:
        """The file in its runtime, on this host."""
        from nas.hardware.runtimes import opened

        here = self.device.address is None and attached(self.device)
        kind = self.device.kind if here else "cpu"
        return opened(self.written.paths[0], self.device.engine, kind)

    def given(self, inputs: Any) -> Any:
        """Inputs of the task as the file takes them."""
        import numpy as np

        if not self.form.preprocess_in_graph:
            return np.ascontiguousarray(inputs, np.float32)
        about = self.place.task.normalisation or {}
        mean, std = (np.array(about[k], np.float32).reshape(3, 1, 1) for k in ("mean", "std"))
        pixels = np.rint((np.asarray(inputs) * std + mean) * 255).clip(0, 255)
        return np.ascontiguousarray(pixels.astype(np.uint8).transpose(0, 2, 3, 1))

    @cached_property
    def compared(self) -> tuple[Any, Any, Any]:
        """Validation inputs as the file takes them, the network's outputs, and the file's."""
        import numpy as np
        import torch

        from nas.deploy.parity import validation_inputs

        inputs = validation_inputs(self.place.task, COMPARED)
        with torch.no_grad():
            expected = self.deployed(torch.from_numpy(inputs)).numpy()
        given = self.given(inputs)
        return given, expected, np.asarray(self.run(given))

    @cached_property
    def parity(self) -> Parity:
        """How far the file is from the network, in the runtime."""
        from nas.deploy.parity import AGREEMENT, THRESHOLDS, compare

        _, expected, found = self.compared
        precision = self.written.precision
        return compare(
            expected.astype("float64"), found.astype("float64"), THRESHOLDS[precision],
            AGREEMENT[precision],
        )  # fmt: skip

    @property
    def score(self) -> tuple[Trained, Mapping[str, Any]]:
        """The file's scores on validation images, and on test images where it is finished."""
        import torch

        from nas.training.scoring import score

        def predict(inputs: Any) -> Any:
            return torch.from_numpy(self.run(self.given(inputs.numpy())))

        task = self.place.task
        found = score(predict, task)
        search, confirm = found["search"], found["confirm"]
        trained = Trained(
            0, "", search.score, search.se, search.n, confirm.score, confirm.se, confirm.n
        )
        test = {"n": 0}
        if self.done is not None:
            test = score(predict, task, ("all",), "test")["all"].to_json()
        return trained, test
