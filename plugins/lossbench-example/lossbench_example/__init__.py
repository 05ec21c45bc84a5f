"""One of each kind of thing that a package can add to lossbench: a module each, to be copied alone or together."""
