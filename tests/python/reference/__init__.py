"""The original PyTorch implementations, prepared for computing reference values."""
