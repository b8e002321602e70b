"""Files that say what they were made from."""
