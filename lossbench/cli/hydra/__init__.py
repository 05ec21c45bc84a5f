"""Experiments as Hydra composes them: one job, or the jobs of a sweep."""
