"""What runs show of their temperature, as rules."""
