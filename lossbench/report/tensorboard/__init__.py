"""TensorBoard's boards: their content is decided apart from how it is written."""
