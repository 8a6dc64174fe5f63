"""The platform's HTTP API: requests, responses, and what each kind of failure proves."""
