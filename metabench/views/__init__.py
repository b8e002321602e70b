"""What people look at: figures, the report, MLflow runs, the headline, published numbers."""
