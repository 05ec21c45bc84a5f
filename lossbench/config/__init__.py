"""The typed configuration: its schema, its choices from the registry, its defaults, and its meaning."""
