"""What is hidden from whom: what the model says, another's answer, which examples are controls."""
