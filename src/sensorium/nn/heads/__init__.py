"""From features to what objectives and decoding need."""
