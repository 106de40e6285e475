"""Metrics of an order: which items pass which, softly counted, with every order that breaks a tie."""
