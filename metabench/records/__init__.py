"""Files that record their inputs."""
