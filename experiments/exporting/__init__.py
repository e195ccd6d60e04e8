"""Parts of `experiments/export_onnx.py`."""
