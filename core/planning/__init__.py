"""What a figure still needs, on which device, and how long that takes, before it is spent."""
