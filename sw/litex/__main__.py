"""Simulates a LiteX SoC whose processor runs the digits network on the accelerator, from C."""

import argparse
import logging
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from weft import compiler
from weft.digits import MODEL, load
from weft.errors import InputError
from weft.errors.guard import EXIT_MISMATCH, guarded
from weft.firmware import write_firmware
from weft.hw.isa.presets import load_config
from weft.runtime.placing import place

__all__ = ["main"]


_CYCLES = 2_000_000     # for the start, and for each frame


def main(arguments: list[str] | None = None) -> int:
    """Builds and runs the SoC, prints what it prints, and compares its classes with the labels.

    Returns
    -------
    :class:`int`
        0; 1 if a class is wrong; 2 after an error.
    """
    return guarded(_main, arguments)


def _main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m weft.litex", description=__doc__)
    parser.add_argument("--config", default="tiny", metavar="NAME|FILE.toml",
                        help="configuration of the accelerator (default: tiny)")
    parser.add_argument("--frames", type=int, default=10, metavar="N",
                        help="the first N held-out images (default: 10)")
    parser.add_argument("--folder", type=Path, metavar="DIR",
                        help="keep what is built there (default: a temporary folder)")
    options = parser.parse_args(arguments)
    images, labels = load()
    if not 1 <= options.frames <= len(images):
        raise InputError(f"Number of frames must be between 1 and {len(images)}, "
                         f"not {options.frames}")
    images, labels = images[:options.frames], labels[:options.frames]
    if options.folder is None:
        with tempfile.TemporaryDirectory(prefix="weft-litex-") as folder:
            lines = _run(Path(folder), options.config, images)
    else:
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Folder {options.folder} cannot be created: "
                             f"{error.strerror}") from None
        lines = _run(options.folder, options.config, images)
    classes = [int(found[1]) for line in lines if (found := re.search(r"class (\d+)", line))]
    right = sum(a == b for a, b in zip(classes, labels, strict=False))
    print(f"{right} of {len(labels)} classes are right")
    return 0 if right == len(labels) else EXIT_MISMATCH


def _run(folder: Path, config_name: str, images: np.ndarray) -> list[str]:
    """What the SoC prints, line by line."""
    logging.disable(logging.INFO)   # LiteX tells of all that it adds
    from .simulation import SimulatedSoC

    config = load_config(config_name)
    [program] = compiler.compile_parts(place(MODEL, config).accelerated(), config)
    sources = [path for path in write_firmware(folder, program, "network") if path.suffix == ".c"]
    (folder / "frames.h").write_text(_frames(images), encoding="utf-8")
    print(f"Building a SoC with {config.name} in {folder}", flush=True)
    soc = SimulatedSoC(config, folder)
    simulator = soc.build(soc.compile([Path(__file__).parent / "demo" / "main.c", *sources]))
    lines: list[str] = []

    def show(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    soc.run(simulator, _CYCLES * (1 + len(images)), show)
    return lines


def _frames(images: np.ndarray) -> str:
    """The images as C: pixels of 0 to 16."""
    values = images.reshape(len(images), -1).astype(int)
    rows = ",\n".join(f"    {{ {', '.join(map(str, row))} }}" for row in values.tolist())
    return (f"#define FRAMES {len(values)}u\n#define FRAME_VALUES {values.shape[1]}u\n"
            f"#define FRAME_SCORES 10u\n\n"
            f"static const uint8_t frames[FRAMES][FRAME_VALUES] = {{\n{rows}\n}};\n")


if __name__ == "__main__":
    sys.exit(main())
