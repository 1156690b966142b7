"""Every formula that judges results, in pure Python: intervals, tests, power, stopping, correction.

A worker needs no numeric library for it: Student's t and the binomial tail come from one incomplete beta
function (`distributions`). docs/statistics.md says which method is used where, what it assumes and where it
is weak; scipy, statsmodels and published tables are its oracles in the tests.
"""

from __future__ import annotations

from promptlab.statistics.bootstrap import (
    Bootstrapped,
    bootstrap,
    corrected_interval,
    paired_bootstrap,
)
from promptlab.statistics.clusters import FEWEST, Clustered, clustered, cr1, cr3
from promptlab.statistics.correction import Corrected, ppi_mean
from promptlab.statistics.distributions import (
    binomial_cdf,
    binomial_pmf,
    chi_square_tail,
    incomplete_beta,
    log_beta,
    normal_cdf,
    normal_quantile,
    normal_two_sided,
    student_quantile,
    student_two_sided,
)
from promptlab.statistics.intervals import (
    CONFIDENCE,
    Interval,
    effective_n,
    is_skewed,
    median_interval,
    median_rank,
    student_interval,
    t_of,
    wilson,
    wilson_t,
    worst_case,
    z_of,
)
from promptlab.statistics.paired import (
    McNemar,
    Tested,
    bp_t,
    mcnemar,
    paired_t,
    stuart_maxwell,
    tango,
    tango_z,
)
from promptlab.statistics.power import (
    ALPHA,
    DISCORDANT,
    POWER,
    detectable_mean,
    detectable_share,
    rows_for_mean,
    rows_for_share,
)
from promptlab.statistics.ranking import BLOCKS, RESAMPLES, Ranked, bootstrap_ranks, pareto_front
from promptlab.statistics.several import holm
from promptlab.statistics.stopping import e_value, obrien_fleming
from promptlab.statistics.trials import at_least_k, flake_rate, pass_at_k, pass_hat_k
from promptlab.statistics.unpaired import newcombe, welch
from promptlab.statistics.verdicts import (
    FEWEST_ROWS,
    MARGIN,
    Clusters,
    Judgement,
    PairedData,
    Verdict,
    judge,
    paired_data,
)

__all__ = [
    "ALPHA",
    "BLOCKS",
    "CONFIDENCE",
    "DISCORDANT",
    "FEWEST",
    "FEWEST_ROWS",
    "MARGIN",
    "POWER",
    "RESAMPLES",
    "Bootstrapped",
    "Clustered",
    "Clusters",
    "Corrected",
    "Interval",
    "Judgement",
    "McNemar",
    "PairedData",
    "Ranked",
    "Tested",
    "Verdict",
    "at_least_k",
    "binomial_cdf",
    "binomial_pmf",
    "bootstrap",
    "bootstrap_ranks",
    "bp_t",
    "chi_square_tail",
    "clustered",
    "corrected_interval",
    "cr1",
    "cr3",
    "detectable_mean",
    "detectable_share",
    "e_value",
    "effective_n",
    "flake_rate",
    "holm",
    "incomplete_beta",
    "is_skewed",
    "judge",
    "log_beta",
    "mcnemar",
    "median_interval",
    "median_rank",
    "newcombe",
    "normal_cdf",
    "normal_quantile",
    "normal_two_sided",
    "obrien_fleming",
    "paired_bootstrap",
    "paired_data",
    "paired_t",
    "pareto_front",
    "pass_at_k",
    "pass_hat_k",
    "ppi_mean",
    "rows_for_mean",
    "rows_for_share",
    "stuart_maxwell",
    "student_interval",
    "student_quantile",
    "student_two_sided",
    "t_of",
    "tango",
    "tango_z",
    "welch",
    "wilson",
    "wilson_t",
    "worst_case",
    "z_of",
]
