"""What makes it fast, on one device or on many: no score and no label is known here."""
