"""What data somebody has, what is odd about them, and the command that trains on them."""
