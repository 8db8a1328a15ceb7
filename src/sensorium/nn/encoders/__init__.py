"""From one modality's tensor to tokens of the trunk's width."""
