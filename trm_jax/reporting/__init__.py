"""How results are written down, whatever they are about."""
