"""Our own evidence.json (what `export` writes), a verdict, or a profile that was saved."""

from __future__ import annotations

from typing import Any

from epitaxy import evidence, rulebook
from epitaxy.candidate import Candidate
from epitaxy.errors import BadInput
from epitaxy.metric import Profile, metrics_of
from epitaxy.reader import Report
from epitaxy.readers import _json
from epitaxy.verdict import Verdict

_PREFIXES = ("static.", "ablation.", "probe.")


class Evidence:
    """What this package writes itself."""

    name = "evidence"
    what = "epitaxy export (evidence.json), epitaxy profile --json"

    def recognises(self, report: Report) -> bool:
        """By the keys of evidence, or of a profile."""
        head = report.head.lstrip()
        ours = b'"verdict"' in report.head and b'"digests"' in report.data[-4096:]
        return head.startswith(b"{") and (ours or _is_profile(head))

    def read(self, report: Report) -> tuple[Profile, ...]:
        """One profile: the one that was taken, else the verdict's figures. Raises BadInput."""
        data = _json.load(report)
        if "verdict" not in data:
            return (Profile.from_dict(data.get("profile", data)),)
        if data["verdict"] is None:
            raise BadInput(f"{report.path} holds no verdict", "judge the candidate, then export it")
        found = evidence.read(data, report.path)
        if found.profiled:
            return (found.profiled.profile,)
        return (profile_of(found.verdict, found.candidate),)


def plugin() -> Evidence:
    """The reader."""
    return Evidence()


def _is_profile(head: bytes) -> bool:
    return all(word in head for word in (b'"family"', b'"kernel"', b'"metrics"'))


def profile_of(verdict: Verdict, candidate: Candidate) -> Profile:
    """The verdict's static metrics; those of ablations keep their names."""
    named: dict[str, Any] = {
        (k if k.startswith(_PREFIXES) else f"static.{k}"): v for k, v in verdict.metrics.items()
    }
    return Profile(
        kernel=candidate.entry, family=rulebook.family_of(candidate.toolchain), source="verdict",
        time_s=verdict.time_s, metrics=metrics_of(named, "verdict"),
    )  # fmt: skip
