"""Differences are paired, intervals are the bootstrap's, and a verdict needs an interval without zero."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from reproduce.comparisons import (
    CLAIMS,
    COLUMNS,
    Difference,
    Verdict,
    bootstrap,
    lines,
    paired,
    verdicts,
    write_comparisons,
)
from reproduce.plan import planned_networks
from reproduce.results import Result, paper_results
from tests.reproduce.test_treatments import result_of


def test_the_interval_is_that_of_all_resamples() -> None:
    """Six differences have 6 ** 6 resamples; here all of them, where the module draws some."""
    differences = [0.031, -0.012, 0.044, 0.002, 0.027, 0.051]
    found = bootstrap(differences)
    means = np.array([np.mean(chosen) for chosen in product(differences, repeat=6)])
    low, high = np.quantile(means, [0.025, 0.975])
    centre, wider = np.mean(differences), (6 / 5) ** 0.5
    assert found.mean == pytest.approx(centre)
    assert found.low == pytest.approx(centre + wider * (low - centre), abs=6e-4)
    assert found.high == pytest.approx(centre + wider * (high - centre), abs=6e-4)
    assert bootstrap(differences) == found


def test_of_many_normal_differences_it_is_the_normal_interval() -> None:
    differences = np.random.default_rng(1).normal(0.02, 0.05, 400)
    found = bootstrap(differences.tolist())
    half = 1.96 * differences.std(ddof=1) / 20
    assert found.low == pytest.approx(differences.mean() - half, abs=half / 20)
    assert found.high == pytest.approx(differences.mean() + half, abs=half / 20)


def test_five_differences_have_no_interval() -> None:
    assert bootstrap([0.5] * 5) == Difference(5, 0.5)
    assert bootstrap([0.5] * 6) == Difference(6, 0.5, 0.5, 0.5)
    assert bootstrap([0.5] * 6).text() == "+50.0 (+50.0 to +50.0), 6 pairs"
    assert bootstrap([-0.034]).text() == "-3.4, 1 pair"


def test_only_what_belongs_together_is_compared() -> None:
    ours = {("", "0", "A"): 0.5, ("", "0", "B"): 0.7, ("1", "0", "A"): 0.1}
    theirs = {("", "0", "B"): 0.5, ("", "0", "A"): 0.25, ("2", "0", "A"): 0.9}
    found = paired(ours, theirs)
    assert found is not None
    assert found.pairs == 2
    assert found.mean == pytest.approx(0.225)
    assert paired(ours, {}) is None


@pytest.mark.parametrize(
    ("difference", "sign", "verdict"),
    [
        (Difference(6, 0.2, 0.1, 0.3), 1, "shown"),
        (Difference(6, 0.2, 0.1, 0.3), -1, "contradicted"),
        (Difference(6, -0.2, -0.3, -0.1), -1, "shown"),
        (Difference(6, -0.2, -0.3, -0.1), 1, "contradicted"),
        (Difference(6, 0.2, -0.1, 0.3), 1, "open: the interval has zero in it"),
        (Difference(6, 0.2, 0.0, 0.3), 1, "open: the interval has zero in it"),
        (Difference(2, 0.2), 1, "open: 6 pairs or more are needed (--seeds)"),
        (None, 1, "not run"),
    ],
)
def test_a_side_is_taken_only_where_the_interval_does(difference: Difference | None, sign: int, verdict: str) -> None:
    assert Verdict("", difference, sign).verdict == verdict


def run_of(seeds: int) -> list[Result]:
    """Each network is off its base by what its treatment and depth say; bases differ by seed and half."""
    effect = {"BnB": (0, 0, 0, -3, -5, 0, 0), "AnB": (0, 0, 0, -4, -6, -8, -12), "BnB+": (0,) * 7, "AnB+": (2,) * 7}
    results = []
    for network in planned_networks("0", more_seeds=range(1, seeds)):
        base = 60 + 7 * (network.target == "A") + 3 * (network.seed or 0)
        if network.family == "nolearn":
            accuracy = 70 - 10 * network.n
        else:
            accuracy = base + (effect[network.treatment][network.n - 1] if network.n else 0)
        results.append(result_of(network, accuracy / 100))
    return results


def test_bases_that_differ_by_seed_do_not_hide_what_networks_differ_by() -> None:
    found = {line.treatment + str(line.n): line for line in lines(run_of(3))}
    assert found["AnB7"].networks == 6
    assert found["AnB7"].mean == pytest.approx(0.60 + 0.035 + 0.03 - 0.12)
    assert found["base0"].sd == pytest.approx(np.std([0.6, 0.67, 0.63, 0.7, 0.66, 0.73], ddof=1))
    difference = found["AnB7"].difference
    assert difference is not None
    assert difference.pairs == 6
    assert difference.mean == pytest.approx(-0.12)
    assert difference.low == pytest.approx(-0.12)
    assert found["base0"].difference is None
    said = [(v.verdict, round(v.difference.mean, 4) if v.difference else None) for v in verdicts(run_of(3))]
    assert said == [
        ("shown", -0.6),  # random features: two networks a seed
        *(("shown", value) for value in (-0.12, -0.12, -0.04, 0.04, 0.02, 0.02)),
    ]
    assert {v.verdict for v in verdicts(run_of(1))} == {"open: 6 pairs or more are needed (--seeds)"}


def test_of_the_authors_networks() -> None:
    """AnB at n = 7 of eight halves, each against its own base."""
    rows = [row for row in paper_results() if row.split in ("0", "1", "2", "3")]
    bases = {(row.split, row.target): row.accuracy for row in rows if row.treatment == "base"}
    differences = [row.accuracy - bases[row.split, row.target] for row in rows if (row.treatment, row.n) == ("AnB", 7)]
    (found,) = [
        line for line in lines(paper_results()) if (line.halves, line.treatment, line.n) == ("random", "AnB", 7)
    ]
    assert found.difference is not None
    assert found.difference.pairs == 8
    assert found.difference.mean == pytest.approx(sum(differences) / 8)
    assert verdicts(paper_results())[1].verdict == "shown"
    assert "natural" in {line.halves for line in lines(paper_results())}


def test_a_pair_counts_where_all_its_networks_are_there() -> None:
    some = [row for row in run_of(3) if (row.treatment, row.n, row.network[-5:]) != ("BnB", 5, "seed1")]
    dip = verdicts(some)[3].difference
    assert dip is not None
    assert dip.pairs == 4


def test_every_claim_has_a_side() -> None:
    assert {claim.sign for claim in CLAIMS} == {-1, 1}


def test_the_file_of_differences(tmp_path: Path) -> None:
    write_comparisons(lines(run_of(3)), tmp_path / "differences.csv")
    rows = list(csv.DictReader((tmp_path / "differences.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    (row,) = [row for row in rows if (row["treatment"], row["n"]) == ("AnB+", "3")]
    assert (row["halves"], row["networks"], row["pairs"]) == ("random", "6", "6")
    assert [float(row[name]) for name in ("difference", "low", "high")] == pytest.approx([0.02] * 3)
    assert (rows[0]["treatment"], rows[0]["difference"], rows[0]["pairs"]) == ("base", "", "0")
