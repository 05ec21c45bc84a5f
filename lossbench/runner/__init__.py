"""Run experiments: what is missing, who trains it, where, and what is told meanwhile. No terminal, no Hydra."""
