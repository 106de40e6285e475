"""Forms made of other forms: mixtures, scaled ones, corrections to a base, and any module of scores and targets."""
