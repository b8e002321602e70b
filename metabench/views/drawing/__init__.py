"""What figures share: their look, the tables that they read, and the lines of a loss curve."""
