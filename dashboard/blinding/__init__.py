"""What is hidden from a reviewer: model output, another reader's answer, and which examples are controls."""
