"""From trained weights to a checkpoint that others use, and from that one to a fab's own."""
