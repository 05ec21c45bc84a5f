"""Registered names of lossbench itself: what a plug-in adds in the same environment is tested by the plug-in."""


def built_in(names, task=None):
    """The built-in names of a registry; those that fit `task` if one is given."""
    return [name for name in names.names(task) if names.find(name).__module__.startswith("lossbench.")]
