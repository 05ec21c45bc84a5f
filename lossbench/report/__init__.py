"""Report: tables, figures, TensorBoard's boards and descriptions, as functions that return and print nothing."""
