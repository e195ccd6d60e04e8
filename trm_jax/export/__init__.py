"""ONNX files of a checkpoint, compared with JAX."""
