"""The temperature laboratory: many runs in one program."""
