"""The task of glyph fonts: data, model, task."""
