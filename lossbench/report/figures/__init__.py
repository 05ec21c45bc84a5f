"""Matplotlib's figures, drawn without a window and without global state."""
