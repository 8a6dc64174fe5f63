"""The API over HTTP: routes, messages and fault injection."""
