"""The table of published counts: which row names which preset, in which form.

The table has one row for each published or computed pair of counts. `NAMES` says how the rows of a
system name presets of our spaces. Systems of these families that have no space are in `MISSING`;
`OUTSIDE` are the rows that name a network of no family here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).parents[2] / "shared" / "systems" / "published_points.csv"
Name = Callable[[str], str | None]


@dataclass(frozen=True)
class Row:
    """One row: what is printed, and the preset that it names, in its form."""

    system: str
    model: str
    resolution: int
    params_m: str
    macs_g: str
    source: str
    space: str
    preset: str
    form: str

    @property
    def exact(self) -> bool:
        """A computed row, as against one that its authors rounded."""
        return self.source.startswith(("timm", "computed")) or "exact integers" in self.source

    @property
    def classes(self) -> int:
        """How many the row's network tells apart: CIFAR-10's or ImageNet's, large or small."""
        if self.system == "HorNet" and "in22k" in self.model:
            return 10450
        return 10 if self.resolution == 32 else 1000


def of_timm(model: str) -> str:
    """timm's name of an architecture, without its weights': `resnet50` of `resnet50.a1_in1k`."""
    return model.partition(".")[0] if re.match(r"[a-z0-9_]+\.", model) else model


# --- large kernels -------------------------------------------------------------------------------

SIZES = dict(
    atto="a", femto="f", pico="p", nano="n", tiny="t", small="s", base="b", large="l",
    xlarge="xl", huge="h",
)  # fmt: skip


def large_kernel(family: str) -> Name:
    """Models such as `ConvNeXt-T in22k`, `SLaK-T K61 density .6`, `convnext_base.fb_in1k`."""

    def name(model: str) -> str | None:
        timm = re.match(r"(?:convnextv2|convnext|inception_next)_([a-z]+)\.", model)
        if timm:
            return f"{family}_{SIZES[timm[1]]}"
        if family == "replknet":
            size = re.match(r"RepLKNet-(31B|31L|XL)", model)
            return f"{family}_{size[1].lower()}" if size else None
        pelk = re.match(r"PeLK-(?:(101)-)?([TSB])(?:-(101))?", model)
        if pelk:
            return f"pelk_{pelk[2].lower()}{pelk[1] or pelk[3] or ''}"
        found = re.match(r"\w+-([AFPNTSBL]|XL)\b", model)
        kernel = re.search(r"\bK(31|61)\b", model)
        if not found or re.search(r"\bk[35]\b|\biso\b", model):
            return None
        return f"{family}_{found[1].lower()}" + (f"_k{kernel[1]}" if kernel else "")

    return name


# --- residual networks ---------------------------------------------------------------------------

QUOTED = {
    "R-50": "resnet50",
    "R-101": "resnet101",
    "R-152": "resnet152",
    "X-50-32x4d": "resnext50_32x4d",
    "X-101-32x4d": "resnext101_32x4d",
    "X-152-32x4d": "resnext152_32x4d",
    "RegNetX-4.0GF": "regnetx_040",
    "RegNetY-800MF": "regnety_008",
    "RegNetY-4.0GF": "regnety_040",
    "RegNetY-16GF": "regnety_160",
    "RegNetY-32GF": "regnety_320",
    "ResNet-50 baseline as quoted": "resnet50_v1",
    "ResNet-50-D": "resnet50d",
    "ResNet-50-D + all tricks": "resnet50d",
    "SE-ResNet-50 as quoted": "legacy_seresnet50",
    "SE-ResNeXt-50 as quoted": "legacy_seresnext50_32x4d",
    "ResNet-50 + 1 layer": "resnet53",
    "LAuReL-RW": "resnet50_laurel_rw",
    "LAuReL-RW+LR r16": "resnet50_laurel_rw_lr",
    "LAuReL-RW+LR+PA": "resnet50_laurel_rw_lr_pa",
    "ResNet-18 Mish": "resnet18_mish",
    "ResNet-50 Mish": "resnet50_mish",
    "WRN-50-2-bottleneck": "wide_resnet50_2",
    "Res2NeXt-50": "res2next50",
    "Res2Net-v1b-50": "res2net50d",
    "Res2Net-v1b-101": "res2net101d",
    "Res2Net-v1d-200-SSLD": "res2net200d",
    "ResNeSt-50": "resnest50d",
    "ResNeSt-101": "resnest101e",
    "ResNeSt-200": "resnest200e",
    "ResNeSt-269": "resnest269e",
    "dpn68b": "dpn68",  # its last convolution is written as two: the same counts
    "legacy_senet154": "senet154",
}
PATTERNS = (
    (r"ResNet-(\d+)(?: A[123]| baseline| same recipe)?$", r"resnet\1"),
    (r"ResNeXt-(\d+)$", r"resnext\1_32x4d"),
    (r"ResNeXt-(\d+) (\d+x\d+d)$", r"resnext\1_\2"),
    (r"WRN-(\d+)-(\d+)(?: dropout)?$", r"wrn_\1_\2"),
    (r"PreResNet-(\d+)(?: bs64)?$", r"preresnet_\1"),
    (r"Res2Net-(\d+)-(\d+w)-(\d+s)$", r"res2net\1_\2_\3"),
    (r"ResNet-RS-(\d+)$", r"resnetrs\1"),
    (r"ResNeSt-50-fast (\w+)$", r"resnest50d_\1"),
    (r"DPN-(\d+)$", r"dpn\1"),
    (r"ECA-ResNet-(\d+)$", r"ecaresnet\1"),
)


def residual(model: str) -> str | None:
    """The preset of `resnet` that a row names, by timm's name or by its paper's."""
    plain = of_timm(model)
    if plain in QUOTED:
        return QUOTED[plain]
    for pattern, preset in PATTERNS:
        if re.match(pattern, plain):
            return re.sub(pattern, preset, plain)
    return plain if plain != model else None


def attending(model: str) -> str | None:
    """timm's HaloNets; the paper's own have no counts."""
    return of_timm(model).removesuffix("_256") if "." in model else None


# --- mobile bottlenecks and one-shot aggregation -------------------------------------------------


def mobile(model: str) -> str | None:
    """`B0 AA ckpt`, `EN-B3`, `tf_efficientnet_b7.ns_jft_in1k`, SkipNet's three."""
    size = re.match(r"(?:EN-|(?:tf_)?efficientnet_|EfficientNet-)?[Bb](\d)\b", model)
    if size:
        return f"efficientnet_b{size[1]}"
    return {
        "MobileNetV3-L (control)": "mobilenetv3_large_100",
        "SkipblockNet as in repo config": "skipblocknet",
        "same config without skips": "skipblocknet_plain",
        "ECA-MobileNetV2": "ecamobilenetv2_100",
    }.get(model)


def aggregated(model: str) -> str | None:
    """`VoVNet-39`, `ese_vovnet39b.ra_in1k`."""
    plain = re.match(r"VoVNet-(\d+)$", model)
    if plain:
        return f"vovnet{plain[1]}a"
    return of_timm(model) if "vovnet" in model else None


# --- plain networks, mixers, transformers --------------------------------------------------------


def plain(model: str) -> str | None:
    """`RepVGG-B1g2 deploy`, `repvgg_b1g4.rvgg_in1k`, `RepOpt-VGG-L1`, `L1 conv+BN train`."""
    found = re.match(r"(?:RepVGG-|repvgg_)([ABD]\d(?:g\d|se)?)", model, re.IGNORECASE)
    if found:
        return f"repvgg_{found[1].lower()}"
    found = re.match(r"(?:RepOpt-VGG-)?([BL]\d)\b", model)
    return f"repopt_vgg_{found[1].lower()}" if found else None


def mixed(model: str) -> str | None:
    """`HorNet-T GF`, `hornet_tiny_7x7`, `RepMLPNet-T256 train`, `AFFNet-ET`."""
    found = re.match(r"HorNet-([TSBL]) (7x7|GF)", model)
    if found:
        return f"hornet_{SIZES_OF[found[1]]}_{found[2].lower()}"
    if model.startswith("hornet_"):
        return model
    found = re.match(r"RepMLPNet-([TBDL])\d", model)
    if found:
        return f"repmlpnet_{found[1].lower()}"
    return {"AFFNet": "affnet_base", "AFFNet-T": "affnet_t", "AFFNet-ET": "affnet_et"}.get(model)


SIZES_OF = {"T": "tiny", "S": "small", "B": "base", "L": "large"}


def transformer(model: str) -> str | None:
    """`PVT-Tiny`, `PVTv2-B2-Li`, `pvt_v2_b5.in1k`."""
    found = re.match(r"PVT-(Tiny|Small|Medium|Large)|pvt_(tiny|small|medium|large)", model)
    if found:
        return f"pvt_{(found[1] or found[2]).lower()}"
    found = re.match(r"PVTv2-(B\d(?:-Li)?)", model)
    if found:
        return f"pvt_v2_{found[1].lower().replace('-', '_')}"
    return of_timm(model) if model.startswith("pvt_v2") else None


# system -> the spaces that its rows name presets of, and how
NAMES: dict[str, dict[str, Name]] = {
    "ConvNeXt": {"largekernel": large_kernel("convnext")},
    "ConvNeXtV2": {"largekernel": large_kernel("convnextv2")},
    "ConvNeXtV2 (comparator)": {"largekernel": large_kernel("convnextv2")},
    "InceptionNeXt": {"largekernel": large_kernel("inceptionnext")},
    "PeLK": {"largekernel": large_kernel("pelk")},
    "RepLKNet": {"largekernel": large_kernel("replknet")},
    "SLaK": {"largekernel": large_kernel("slak")},
    "UniRepLKNet": {"largekernel": large_kernel("unireplknet")},
    **{
        system: {"resnet": residual}
        for system in (
            "DPN", "GC-Net", "LAuReL", "Mish", "Mish (darknet)", "Pre-act ResNet",
            "Pre-act ResNet (CIFAR-10)", "Pre-act ResNet (CIFAR-100)", "RSB", "RegNet", "Res2Net",
            "ResNeSt", "ResNeXt", "ResNeXt (CIFAR-10)", "ResNeXt (CIFAR-100)", "ResNet-D",
            "ResNet-RS", "ResNet/RSB/ResNet-D", "SE-Net", "SK-Net", "Wide ResNet",
            "Wide ResNet (CIFAR-10)", "Wide ResNet (CIFAR-100)",
        )
    },
    "HaloNet": {"resnet": attending},
    "ECA-Net": {"mbconv": mobile, "resnet": residual},
    "EfficientNet": {"mbconv": mobile},
    "Fast scaling": {"mbconv": mobile},
    "AFFNet": {"mixer": mixed},
    "HorNet": {"mixer": mixed},
    "RepMLPNet": {"mixer": mixed},
    "PVT": {"hiervit": transformer},
    "RepOpt-VGG": {"repopt": plain},
    "RepVGG (comparator)": {"repopt": plain},
    "RepVGG (train-mode)": {"repopt": plain},
    "SkipNet": {"mbconv": mobile},
    "VoVNet": {"osa": aggregated, "resnet": residual},
    "pycls reference": {"resnet": residual, "mbconv": mobile},
}  # fmt: skip
MISSING = ("DSM",)
OUTSIDE = (  # system and model
    r"BoTNet|ESPCN|LambdaNet|MixNet|RepOpt-GhostNet|Unified Norm|SENN-CNN|Bias loss",
    r"(CoDeNet|IC-Conv|VoVNetV2) \(",  # detectors
    r"ECA-Net: (eca_nfnet|eca_botnext|.*_pruned)",  # NFNets, attention, widths cut one by one
    r"EfficientNet: .*_pruned",
    r"Mish \(darknet\): (CSPResNet|DarkNet)",
    r"RegNet: regnetz",  # inverted bottlenecks
    r"Res2Net: Res2N.*-DLA",
    r"ResNet-D: DenseNet",
    r"ConvNeXt: ConvNeXt-B iso",  # one stage of 16x16 patches
    r"InceptionNeXt: ConvNeXt-T k[35]",  # an ablation's kernels, without counts
)


def outside(system: str, model: str) -> bool:
    """Whether a row names a network of no family here."""
    return any(re.match(pattern, f"{system}: {model}") for pattern in OUTSIDE)


def form_of(system: str, model: str) -> str:
    """`training`, `deployed`, `folded` (further than published) or `nonzero`: what is counted."""
    if "train" in model.split() or "dense" in model.split():
        return "training"
    if system in ("RepLKNet", "UniRepLKNet") or "deploy" in model.split():
        return "deployed"
    if model.endswith("BN folded"):
        return "folded"
    return "nonzero" if system in ("SLaK", "PeLK") else "training"


def rows() -> Iterator[Row]:
    """Every row that names a network of a family with a space; `preset` is empty without one."""
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            system, model = row["system"], row["model"]
            if outside(system, model) or (system not in NAMES and system not in MISSING):
                continue
            found = ("", "")
            for space, name in NAMES.get(system, {}).items():
                preset = name(model)
                if preset:
                    found = (space, preset)
                    break
            yield Row(
                system, model, int(row["resolution"] or 0), row["params_m"], row["macs_g"],
                row["source"], *found, form_of(system, model),
            )  # fmt: skip
