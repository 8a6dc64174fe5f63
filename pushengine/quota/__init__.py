"""The submit quota of a team: its rules, its ledger, and the limiter that keeps it."""
