"""Formulas that losses, tasks, metrics and training share: softmax over few classes, boxes, greedy decoding."""
