"""The platform's HTTP API: what is sent, what comes back, and what a failure proves."""
