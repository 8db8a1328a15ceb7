"""Between a tower and a language model: from token features to the rows that stand among words."""
