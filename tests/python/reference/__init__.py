"""The original PyTorch implementations, made ready to be asked for numbers."""
