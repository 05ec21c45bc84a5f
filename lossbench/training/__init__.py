"""Training: trials are replicas of a stack, which train together in one Lightning fit."""
