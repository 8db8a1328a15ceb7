"""Others' weights: what their files hold, read and written strictly, and how their names map to ours."""
