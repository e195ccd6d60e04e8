"""Speed beside the same model in PyTorch."""
