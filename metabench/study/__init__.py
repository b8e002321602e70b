"""From a study file to cells, protocols and jobs."""
