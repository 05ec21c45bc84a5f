"""Run experiments: queue, locks, executors, tuning, reporters, interrupts, log. No terminal, no Hydra."""
