"""One page per named family: assembly, sizes, preprocessing, citation."""
