"""How scores and targets of a batch are laid out: rows, given shapes, heat maps, sentences, answer spans."""
