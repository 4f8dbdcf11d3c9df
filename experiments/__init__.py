"""Active-learning experiments: one config file each, one command to run them, one to compare them."""
