"""Presets and studies: YAML files in the folders of Hydra's groups."""
