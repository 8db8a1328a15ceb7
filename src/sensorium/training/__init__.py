"""The training loop and what makes a run trustworthy."""
