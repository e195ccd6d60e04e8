"""Pages that run a trained model where the reader is."""
