"""What pyproject.toml cannot say: packages are found, and two lie outside of the folder of their name."""

from setuptools import find_packages, setup

# hydra_plugins is shared by the distributions that extend Hydra: an __init__.py in it would hide the others' plugins
setup(packages=[*find_packages(include=["lossbench", "lossbench.*"]), "lossbench.configs", "hydra_plugins"])
