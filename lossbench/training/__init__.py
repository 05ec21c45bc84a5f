"""Training: trials as rows of a stack, in one Lightning fit."""
