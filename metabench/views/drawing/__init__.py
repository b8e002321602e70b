"""Shared parts of figures: style, reading of tables, and the lines of a loss curve."""
