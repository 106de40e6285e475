"""scikit-learn's own checks of the estimators, as they come: every check, at the default settings, several times.

The tests run the same checks with fewer epochs. Nothing here is seeded but what scikit-learn seeds, so that each round
is another training.

    python benchmarks/fuzz/estimators.py --rounds 3
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sklearn.utils.estimator_checks import check_estimator

from metricgrad.integrations.sklearn import MetricClassifier, MetricRegressor

#: Checks that cannot pass, and why.
EXPECTED_TO_FAIL = {
    "check_sample_weight_equivalence_on_dense_data": "rows are held back and drawn at random: one of weight 2 is as "
    "two on average over trainings, not in each",
}


def main() -> int:
    """Run all checks, and say of each that did not pass why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    failed = 0
    for _ in range(parser.parse_args().rounds):
        for estimator in (MetricClassifier(), MetricRegressor()):
            found = check_estimator(estimator, expected_failed_checks=EXPECTED_TO_FAIL, on_skip=None, on_fail=None)
            passed = sum(one["status"] == "passed" for one in found)
            print(f"{type(estimator).__name__}: {passed} of {len(found)} checks passed")
            for one in found:
                if one["status"] != "passed":
                    print(f"  {one['check_name']} {one['status']}: {_why(one)}")
            failed += sum(one["status"] == "failed" for one in found)
    return int(failed > 0)


def _why(found: dict[str, Any]) -> str:
    return str(found["expected_to_fail_reason"] or found["exception"]).strip().partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
