"""The tasks of the development tables: data, tasks."""
