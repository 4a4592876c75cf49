"""What the tests share: models, cases, references, ways of running."""
