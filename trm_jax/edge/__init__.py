"""What runs on the device: numpy and onnxruntime, Python 3.10 and newer, no jax."""
