"""The API over HTTP: routes, messages, and faults on demand."""
