"""Sources of samples, their order, and the way from a Sample to a Batch."""
