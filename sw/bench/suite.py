"""What is measured: networks on configurations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from weft.digits import MODEL as DIGITS
from weft.errors import InputError
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import PRESETS

from .mobile import MOBILE
from .networks import NETWORKS as TESTED
from .networks import Builder, conv1x1, conv3x3, resnet18
from .quantize import quantize_model
from .transformer import TRANSFORMERS

__all__ = ["CONFIGS", "NETWORKS", "Case", "Network", "select"]


_SEED = 0

_BASE = PRESETS["base"]

CONFIGS: dict[str, AcceleratorConfig] = {config.name: config for config in (
    _BASE, *(PRESETS[name] for name in ("small", "wide", "tiny")),
    _BASE.replace(name="base_8x8", rows=8, cols=8, requant_lanes=4),
    _BASE.replace(name="base_32x32", rows=32, cols=32, requant_lanes=16),
    _BASE.replace(name="base_axi128", axi_data_width=128),
    _BASE.replace(name="base_attention", products=True, softmax=True, normalize_channels=192,
                  row_units=4),
)}
"""By name: presets, and what becomes of ``base`` if one thing changes."""

_ATTENTION = ("base_attention",)
_SLOW_CONFIGS = ("base_32x32", "base_axi128", *_ATTENTION)

# What takes long is only measured where it tells something.
_USUAL = tuple(name for name in CONFIGS if name not in ("base_axi128", *_ATTENTION))
_MOBILE = ("base", "small", "base_axi128")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network of the suite.

    Attributes
    ----------
    name : :class:`str`
    title : :class:`str`
        For the reader of the results.
    load : callable
        Gives the model or its file; called with the folder of models that are not part of the
        project, or :py:`None`.
    file : :class:`str`
        In that folder, of a network that comes from there.
    kernel : :class:`bool`
        A single layer, whose own cycles on its engine are of interest.
    configs : tuple of :class:`str`
        On which it is measured.
    batch : :class:`int`
        Frames that are computed together: all figures are those of so many.
    slow : :class:`bool`
        It takes minutes.
    """

    name: str
    title: str
    load: Callable[[Path | None], onnx.ModelProto | Path]
    file: str = ""
    kernel: bool = False
    configs: tuple[str, ...] = _USUAL
    batch: int = 1
    slow: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network on a configuration; both by name, and cheap to send to another process.

    Attributes
    ----------
    slow : :class:`bool`
        It takes minutes, for the simulation or for building the simulator.
    """

    network: str
    config: str
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.network} on {self.config}"


def _random(name: str, builder: Builder, title: str, **options: Any) -> Network:
    """A network with random weights."""
    def load(_models: Path | None) -> onnx.ModelProto:
        rng = np.random.default_rng(_SEED)
        return quantize_model(rng, builder(rng))

    return Network(name=name, title=title, load=load, **options)


def _mobile(name: str, title: str) -> Network:
    """One of those for small devices."""
    return _random(name, MOBILE[name], title, configs=_MOBILE, slow=True)


def _given(name: str, title: str, *, folder: str = "", **options: Any) -> Network:
    """A network from the folder of models, or a folder in it."""
    file = str(Path(folder, f"{name}.onnx"))

    def load(models: Path | None) -> Path:
        if models is None:
            raise InputError(f"Network {name} needs a folder with {file}: name it with --models")
        return models / file

    return Network(name=name, title=title, load=load, file=file, **options)


_AUTOENCODER = TESTED["autoencoder"]

NETWORKS: dict[str, Network] = {network.name: network for network in (
    Network(name="digits", title="digits, 8x8", load=lambda _models: DIGITS),
    _given("ic_resnet8_int8", "ResNet-8, 32x32 (MLPerf Tiny)"),
    _given("kws_dscnn_int8", "DS-CNN, 49x10 (MLPerf Tiny)"),
    _random("autoencoder", _AUTOENCODER, "autoencoder 640-128-8-128-640 (MLPerf Tiny)",
            configs=_MOBILE),
    _random("autoencoder_16", _AUTOENCODER, "the autoencoder, 16 frames together",
            configs=_MOBILE, batch=16),
    _random("mobilenet_v1", TESTED["mobilenet_v1"], "MobileNetV1-0.25, 96x96"),
    _mobile("shufflenet_v2_05", "ShuffleNetV2 x0.5, 224x224"),
    _mobile("mobilenet_v3_small", "MobileNetV3-small, 224x224"),
    _mobile("mnasnet_05", "MNASNet 0.5, 224x224"),
    _mobile("mobilenet_v2", "MobileNetV2, 224x224"),
    _mobile("efficientnet_b0", "EfficientNet-B0, 224x224"),
    _mobile("yolov8n", "YOLOv8n, 320x320"),
    _given("mp_face_landmark", "face landmarks, 192x192", folder="real", configs=_MOBILE,
           slow=True),
    _given("ppocr_rec160", "text recognizer, 48x160", folder="real", configs=_MOBILE, slow=True),
    _random("resnet18", resnet18, "ResNet-18, 224x224", configs=("base_axi128",), slow=True),
    _random("deit_tiny_block", TRANSFORMERS["deit_tiny_block"],
            "a block of DeiT-tiny, 197 tokens", configs=_ATTENTION, slow=True),
    _random("bert_tiny", TRANSFORMERS["bert_tiny"], "the encoder of BERT-tiny, 128 tokens",
            configs=_ATTENTION, slow=True),
    _random("keyword_transformer", TRANSFORMERS["keyword_transformer"],
            "KWT-1, keywords, 98 time steps", configs=_ATTENTION, slow=True),
    _random("deit_tiny", TRANSFORMERS["deit_tiny"], "DeiT-tiny, 224x224", configs=_ATTENTION,
            slow=True),
    _random("conv3x3", conv3x3, "3x3 convolution, 64 to 64 channels, 32x32", kernel=True),
    _random("conv1x1", conv1x1, "1x1 convolution, 128 to 128 channels, 28x28", kernel=True),
)}
"""By name."""


def _cases() -> list[Case]:
    return [Case(network=network.name, config=config,
                 slow=config in _SLOW_CONFIGS or network.slow)
            for network in NETWORKS.values() for config in CONFIGS if config in network.configs]


def select(*, networks: list[str] | None = None, configs: list[str] | None = None,
           models: Path | None = None, slow: bool = False) -> list[Case]:
    """The cases to measure.

    Parameters
    ----------
    networks, configs : list of :class:`str`
        Only these; all, if not given. A slow one that is named is measured.
    models : path
        Folder of models that are not part of the project. Without it, networks that come from
        there are left out, unless they are named.
    slow : :class:`bool`
        Slow ones too.

    Raises
    ------
    InputError
        If there is no such network, configuration or file, or nothing is left.
    """
    for noun, names, known in (("Network", networks, NETWORKS), ("Config", configs, CONFIGS)):
        for name in names or ():
            if name not in known:
                raise InputError(f"{noun} must be one of {', '.join(known)}, not {name!r}")
    if models is not None and not models.is_dir():
        raise InputError(f"Models {models} must be a folder")

    def wanted(case: Case) -> bool:
        file = NETWORKS[case.network].file
        if networks is None and file and (models is None or not (models / file).is_file()):
            return False
        if not (case.network in (networks or NETWORKS) and case.config in (configs or CONFIGS)):
            return False
        named = (case.network in (networks or ()) and NETWORKS[case.network].slow) \
            or (case.config in (configs or ()) and case.config in _SLOW_CONFIGS)
        return slow or named or not case.slow

    cases = [case for case in _cases() if wanted(case)]
    if not cases:
        raise InputError(f"Network {', '.join(networks or ())} is not measured on config "
                         f"{', '.join(configs or ())}")
    return cases
