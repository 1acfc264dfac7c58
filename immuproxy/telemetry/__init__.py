"""What the proxy tells about itself: logs (``logs``) and metrics (``metrics``)."""
