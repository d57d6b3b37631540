"""How far predictions lie from measurements, and how wide an interval must be to hold them."""

from __future__ import annotations

import math

import numpy as np

from starsearch.latency.profile import FloatVector, HeldOut

CONFIDENCE = 0.9
_LEAST_OF_VARIANCE = 0.5


def describe_errors(predicted_ms: FloatVector, measured_ms: FloatVector, *, method: str) -> HeldOut:
    """The errors of predictions of networks that the fit had not seen.

    Args:
        predicted_ms: (n,).
        measured_ms: (n,).
        method: how the networks were held out.
    """
    from scipy.stats import spearmanr

    errors = np.abs(predicted_ms / measured_ms - 1)
    varies = len(errors) > 1 and np.ptp(predicted_ms) > 0 and np.ptp(measured_ms) > 0
    return HeldOut(
        method=method,
        networks=len(errors),
        mape_percent=float(100 * errors.mean()),
        within_5_percent=float(100 * (errors <= 0.05).mean()),
        within_10_percent=float(100 * (errors <= 0.10).mean()),
        spearman=float(spearmanr(predicted_ms, measured_ms)[0]) if varies else math.nan,
    )


def log_error(predicted_ms: FloatVector, measured_ms: FloatVector) -> float:
    """Root mean square of ln(measured / predicted)."""
    return float(np.sqrt(np.mean(np.log(measured_ms / predicted_ms) ** 2)))


def prediction_interval(error: float, count: int, *, noise: FloatVector | None = None) -> tuple[float, float]:
    """Ends of the 90 % interval as logarithms of measured / predicted: Student's quantile times the error.

    An order statistic of the residuals (conformal) needs no normal distribution, but from 20 to 50 of them it wavers
    more than the distribution matters: over random calibrations of 20 to 50 networks it held 58 to 100 % of others.
    What the measurements' own noise adds is taken off as a variance, at most half of it all.

    Args:
        error: of `log_error`, of networks that the fit had not seen.
        count: how many these were; at least 2.
        noise: (n,), relative standard errors of their measurements; None for none.
    """
    from scipy.stats import t

    if noise is not None and error > 0:
        error *= math.sqrt(max(1 - float(np.mean(noise**2)) / error**2, _LEAST_OF_VARIANCE))
    half_width = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return -half_width, half_width
