"""What stderr shows while a command works: live lines on a terminal, plain lines elsewhere."""
