"""Terms that read the inside of the model."""
