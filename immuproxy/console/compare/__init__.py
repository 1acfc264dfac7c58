"""Two manifests side by side."""
