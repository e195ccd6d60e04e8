"""The proof of an accelerator, part by part."""
