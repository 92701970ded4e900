"""The folders that make up the package `weft`: everything else is in pyproject.toml."""

from setuptools import find_packages, setup

ROOTS = {"weft": "sw", "weft.hw": "hw", "weft.sim": "sim", "weft.boards": "boards"}

setup(package_dir=ROOTS,
      packages=[name for root, folder in ROOTS.items()
                for name in (root, *(f"{root}.{package}" for package in find_packages(folder)))])
