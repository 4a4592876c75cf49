"""Step times beside plain Keras: `python -m benchmarks`."""
