"""What serves a code: exported functions that need neither Flax nor training code."""
