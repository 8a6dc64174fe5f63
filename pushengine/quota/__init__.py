"""The submit quota of a team: its rules, the ledger that counts submits, and the limiter that enforces the quota."""
