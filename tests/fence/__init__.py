"""Every number of the library by cell, before and after a change that should move none: see ``__main__.py``."""
