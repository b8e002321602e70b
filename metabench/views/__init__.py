"""Views for people: figures, the report, MLflow runs, the headline, published numbers."""
