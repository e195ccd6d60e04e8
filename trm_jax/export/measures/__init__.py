"""What an exported file is like: agreement with JAX, latency, cost, roofline."""
