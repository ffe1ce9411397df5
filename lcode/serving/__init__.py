"""What serves a code: the policy, a service on Ray, a simulator of both, and exports that need no training code."""
