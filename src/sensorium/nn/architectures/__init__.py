"""How encoders, trunk and heads are wired."""
