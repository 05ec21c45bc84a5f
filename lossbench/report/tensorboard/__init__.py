"""TensorBoard's boards: what is on them is decided apart from what is written."""
