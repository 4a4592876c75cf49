"""What every loss is built from: composition, evaluation, labels, logits."""
