"""Coded inference serving: the policy (pure: events in, actions out), and a simulator that drives it."""
