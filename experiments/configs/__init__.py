"""One file per experiment; its name is how it is called."""
