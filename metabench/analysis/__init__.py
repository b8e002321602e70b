"""From losses to statistics and tables, with NumPy and pandas and without torch."""
