"""Pure maths with no state; imports nothing of ours."""
