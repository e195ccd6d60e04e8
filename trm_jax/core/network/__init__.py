"""The network and its recursion."""
