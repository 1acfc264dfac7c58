"""How the proxy and the pushes of late stand."""
