"""Hydra's primary configuration and presets; the choices themselves come from the registry."""
