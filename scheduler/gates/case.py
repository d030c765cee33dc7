"""One case of a gate: what its two sides showed, and the answer to the candidate. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from scheduler.verdicts import Verdict

#: faster, same, slower and inconclusive are the verdict's; wrong: it computes something less right than the baseline;
#: lost: it cannot be had where the baseline can; missing: nobody measured it; failed: a job of the case did.
Answer = Literal["faster", "same", "slower", "wrong", "lost", "failed", "missing", "inconclusive"]

#: What a gate makes of answers, and its exit code. The first that applies: what is known to be worse stays worse,
#: whatever else failed, and a repeat of the same command would not change it.
WORSE: Final = ("slower", "wrong", "lost")
FAILED: Final = ("failed",)
UNSURE: Final = ("inconclusive", "missing")
GateAnswer = Literal["worse", "failed", "inconclusive", "passed"]
EXIT_CODES: Final[dict[GateAnswer, int]] = {"worse": 4, "failed": 1, "inconclusive": 3, "passed": 0}


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one side of a case showed. None: it does not tell."""

    model: str
    #: One median per process that counted, in the order of the processes.
    values_ms: tuple[float, ...] = ()
    #: Processes that did not count, by their verdict.
    invalid: dict[str, int] = field(default_factory=dict)
    p50_ms: float | None = None
    #: 95 %, between processes; None under five of them.
    p50_ci_ms: tuple[float, float] | None = None
    snr_db: float | None = None
    #: Whether its outputs are those of the reference, bit by bit.
    identical: bool = False
    finite: bool = True
    top1_agreement: float | None = None
    peak_rss_bytes: float | None = None
    artifact_bytes: int | None = None
    artifact_sha256: str | None = None
    energy_per_inference_mj: float | None = None
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    #: Of a stored result: where it stands.
    run: int | None = None
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class What:
    """What is compared and where: the same on both sides but for the model."""

    model: str
    runtime: str
    format: str
    recipe: str
    #: Options that differ from their defaults: "threads=2 batch=4 delegate=gpu".
    options: str
    device: str
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the answer to a case will rest on."""

    what: What
    baseline: Side | None = None
    candidate: Side | None = None
    #: Relative noise of the series as its A/A runs taught; None: not known.
    noise_floor: float | None = None
    #: Whether the processes of the two sides took turns within the hour.
    alternated: bool = False
    #: Whether time x clock tells the same as time; None: no clock is known, or nothing was told.
    clock_agrees: bool | None = None
    #: Both sides are one artifact: nothing was measured, for nothing can differ.
    one_artifact: bool = False
    #: Why the case has no answer but this one: what failed, is lost or is missing.
    settled: tuple[Answer, str] | None = None
    trial: int | None = None
    #: What it cost.
    device_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case with its answer."""

    evidence: Evidence
    answer: Answer
    #: None where the processes were not compared.
    verdict: Verdict | None = None
    #: Of the verdict, after Benjamini-Hochberg over the gate's cases.
    adjusted_p: float | None = None
    #: One sentence.
    why: str
    #: What else its reader must know.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Unpaired:
    """What a side cannot have, and the baseline never had: nothing to compare, so listed, and no part of the answer."""

    #: Who lacks it.
    side: Literal["baseline", "candidate", "both"]
    runtime: str
    recipe: str
    device: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Gate:
    """All cases, and the answer to the whole."""

    #: As the user named them.
    baseline: str
    candidate: str
    #: Whether both were measured for this gate; else stored results were compared.
    measured: bool
    run: int | None
    least_effect: float
    cases: tuple[Case, ...]
    unpaired: tuple[Unpaired, ...] = ()

    @property
    def device_s(self) -> float:
        """What it cost."""
        return sum(case.evidence.device_s for case in self.cases)

    @property
    def answer(self) -> GateAnswer:
        """The worst of its cases' answers. A gate without cases passes nothing."""
        answers = {case.answer for case in self.cases}
        if answers & {*WORSE}:
            return "worse"
        if answers & {*FAILED}:
            return "failed"
        return "inconclusive" if answers & {*UNSURE} or not answers else "passed"

    @property
    def exit_code(self) -> int:
        """Of the command."""
        return EXIT_CODES[self.answer]
