"""The loads of a config file: their models, and what they mean once everything is resolved."""
