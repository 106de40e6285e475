"""Small frames for the tests of tables."""

import numpy as np
import pandas as pd


def people(rows=200, seed=0):
    """Numbers, a category with a rare level, a boolean, dates, an identifier, a constant, gaps, and who left."""
    r = np.random.default_rng(seed)
    age = r.integers(18, 80, rows).astype(float)
    city = r.choice(["Oslo", "Rome", "Bonn"], rows, p=[0.6, 0.3, 0.1]).astype(object)
    city[7] = "Lima"
    member = r.choice(["yes", "no"], rows)
    left = (age + 20 * (city == "Rome") + r.normal(0, 10, rows)) > 60
    age[::11] = np.nan
    return pd.DataFrame(
        {
            "who": [f"p-{k:05d}" for k in range(rows)],
            "age": age,
            "income": np.round(r.lognormal(8, 1, rows), 2),
            "city": city,
            "member": member,
            "since": pd.date_range("2020-01-01", periods=rows, freq="D").strftime("%Y-%m-%d"),
            "country": "X",
            "left": np.where(left, "yes", "no"),
        }
    )


def grades(rows=300, seed=0):
    """Three grades in text that follow a number."""
    r = np.random.default_rng(seed)
    x = r.normal(size=rows)
    grade = np.array(["low", "medium", "high"])[np.digitize(x + r.normal(0, 0.3, rows), [-0.5, 0.5])]
    return pd.DataFrame({"x": x, "z": r.normal(size=rows), "grade": grade})


def prices(rows=200, seed=0):
    """A regression."""
    r = np.random.default_rng(seed)
    x = r.normal(size=(rows, 2))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "price": 500 + 100 * x[:, 0] + r.normal(0, 20, rows)})
