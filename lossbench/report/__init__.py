"""Report: tables and TensorBoard, from records alone."""
