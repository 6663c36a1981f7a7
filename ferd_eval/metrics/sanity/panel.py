"""Every question whether a run's figures can be trusted, with its answer."""

from __future__ import annotations

from dataclasses import dataclass

from ferd_eval.metrics.sanity.attack_checks import attack_checks, balls_of, gap_in
from ferd_eval.metrics.sanity.attack_gap import AttackGap
from ferd_eval.metrics.sanity.check import Check
from ferd_eval.metrics.sanity.clean import clean_checks
from ferd_eval.metrics.sanity.network_checks import network_checks
from ferd_eval.results.outcomes import Outcomes


@dataclass(frozen=True)
class TrustPanel:
    """Every question about the attacks of a run, with its answer, and the gap PGD − AutoAttack."""

    checks: tuple[Check, ...]
    gaps: tuple[AttackGap, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of the checks that warn."""
        return tuple(check.statement for check in self.checks if check.status == "warning")


def trust_panel(outcomes: Outcomes) -> TrustPanel:
    """Answer every question that the run's attacks and its look at the network can answer."""
    balls = balls_of(outcomes)
    network = network_checks(outcomes.manifest.get("diagnosis"), outcomes.class_names)
    gaps = [gap for ball in balls if (gap := gap_in(ball))]
    checks = (*clean_checks(outcomes), *attack_checks(balls), *network)
    return TrustPanel(checks, tuple(gaps))
