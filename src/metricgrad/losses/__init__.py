"""The loss forms, one file each, and the hand-made losses they are compared with."""
