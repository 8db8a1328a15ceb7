"""Language models that write: tokens in, the next token out."""
