"""Neural parts. They know no modality by name, no tokenizer, no loss and no file format."""
