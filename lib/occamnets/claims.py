"""A claim: what is said, what was predicted, what was measured, and the verdict that the rule gives.

`settle` makes the record and shows its card. The record travels as plain data (the payload) in the metadata of the
notebook's output; card, text and scoreboard are functions of it, and its verdict can be computed again from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Literal, NamedTuple

from IPython.display import display

from occamnets.stats import Estimate, Rule, Verdict, decide

KEY = "occam_claim"
"""Where the payload lies in an output's metadata."""
WHOSE = {"paper": "as published", "corrected": "corrected by us", "ours": "ours"}
"""Whose statement the claim is, as the card words it."""
BASIS = {"theory": "theory", "paper": "published figures", "pilot": "our pilot runs"}
"""Where prediction and tolerance come from, as the card words it."""
FOLD = 3
"""A family of more numbers than this is folded on its card."""
MARK = {"holds": "\u2713", "fails": "\u2717", "undecided": "?"}
TESTS = {
    "agreement": "agreement: the whole interval lies within the tolerance of the prediction",
    "above": "direction: the interval lies above the prediction by more than the tolerance",
    "below": "direction: the interval lies below the prediction by more than the tolerance",
    "identity": "identity: equality, up to the stated rounding bound",
    "exact law": "exact law: chi-square with p \u2265 1e-6, and a total variation as large as the tolerance would show",
}


class Member(NamedTuple):
    """One number of a claim; a claim with several is a family and holds if all of them do."""

    name: str
    """which number of the family; empty if it is the only one"""
    rule: Rule
    """what is predicted of it"""
    estimate: Estimate
    """what was measured"""


class Control(NamedTuple):
    """A measurement whose outcome was stated beforehand."""

    name: str
    """what is different from the claim"""
    expect: Literal["holds", "fails"]
    """the outcome that was stated"""
    rule: Rule | None = None
    """its own rule, or the claim's"""
    estimate: Estimate | None = None
    """its own measurement, or the claim's"""


class Claim(NamedTuple):
    """The whole record."""

    id: str
    """chapter/short-name, unique in the book"""
    says: str
    """the claim, one sentence"""
    whose: str
    """one of `WHOSE`"""
    source: str
    """a key of references.bib, or ``ours``"""
    basis: str
    """where the prediction and the tolerance come from, one of `BASIS`"""
    unit: str
    """of prediction, tolerance and measurement"""
    members: tuple[Member, ...]
    """the numbers that the claim is about"""
    controls: tuple[Control, ...]
    """what must come out as stated for the verdict to count"""


def must_fail(name: str, *, rule: Rule | None = None, estimate: Estimate | None = None) -> Control:
    """A control that must come out ``fails``: a wrong prediction (``rule``), or other data (``estimate``), or both."""
    return Control(name, "fails", rule, estimate)


def must_hold(name: str, *, rule: Rule | None = None, estimate: Estimate | None = None) -> Control:
    """A positive control that must come out ``holds``; without one, no verdict ``fails`` counts."""
    return Control(name, "holds", rule, estimate)


def settle(
    id: str,
    *,
    says: str,
    source: str,
    whose: str,
    basis: str,
    unit: str,
    rule: Rule | Mapping[str, Rule],
    estimate: Estimate | Mapping[str, Estimate],
    controls: Sequence[Control],
) -> None:
    """Judge a claim and show its card. A family gives ``estimate`` (and ``rule``, if it differs) by member name.

    ``ValueError`` for an id, a ``whose`` or a ``basis`` out of form, for a claim without a control, or for a control
    that leaves its rule or data open where the claim is a family.
    """
    if not re.fullmatch(r"[a-z0-9-]+/[a-z0-9-]+", id):
        raise ValueError(f"claim id {id!r}: it must look like chapter/short-name, in lower case")
    if whose not in WHOSE or basis not in BASIS:
        raise ValueError(f"{id}: whose={whose!r}, basis={basis!r}; known are {', '.join(WHOSE)} and {', '.join(BASIS)}")
    if not controls:
        raise ValueError(f"{id}: a claim needs a control, by the nearest wrong prediction")
    estimates = {"": estimate} if isinstance(estimate, Estimate) else estimate
    rules = dict.fromkeys(estimates, rule) if isinstance(rule, Rule) else rule
    if set(rules) != set(estimates) or not estimates:
        raise ValueError(f"{id}: rules for {sorted(rules)}, estimates for {sorted(estimates)}; they must match")
    members = tuple(Member(name, rules[name], estimates[name]) for name in estimates)
    filled = tuple(_filled(id, control, members) for control in controls)
    payload = to_payload(Claim(id, says, whose, source, basis, unit, members, filled))
    display({"text/html": card(payload), "text/plain": text(payload)}, raw=True, metadata={KEY: payload})


def _filled(id: str, control: Control, members: tuple[Member, ...]) -> Control:
    if len(members) > 1 and (control.rule is None or control.estimate is None):
        raise ValueError(f"{id}: control {control.name!r} of a family must name its rule and its estimate")
    return control._replace(
        rule=members[0].rule if control.rule is None else control.rule,
        estimate=members[0].estimate if control.estimate is None else control.estimate,
    )


def judge(claim: Claim) -> tuple[Verdict, str]:
    """The verdict and its reason, from the rule alone (design: a control that comes out wrong leaves it undecided)."""
    for control in claim.controls:
        came = decide(control.rule, control.estimate)
        if came != control.expect:
            return "undecided", f"the control \u201c{control.name}\u201d is {came}, not {control.expect}"
    verdicts = {member.name: decide(member.rule, member.estimate) for member in claim.members}
    expected = {control.expect for control in claim.controls}
    if "fails" in verdicts.values():
        if "holds" not in expected:
            return "undecided", "the prediction failed, but no positive control shows that the instrument works"
        return "fails", _which("outside the prediction", verdicts, "fails")
    if "undecided" in verdicts.values():
        return "undecided", _which("too uncertain to decide", verdicts, "undecided")
    if "fails" not in expected:
        return "undecided", "no control shows that a wrong prediction would be rejected"
    return "holds", "every number meets its rule and every control came out as stated"


def _which(what: str, verdicts: Mapping[str, Verdict], kind: Verdict) -> str:
    names = [name for name, verdict in verdicts.items() if verdict == kind and name]
    return what + (f": {', '.join(names)}" if names else "")


def to_payload(claim: Claim) -> dict[str, Any]:
    """The claim as plain data, with its verdict and reason."""
    verdict, reason = judge(claim)
    parts = {"members": [_plain(m) for m in claim.members], "controls": [_plain(c) for c in claim.controls]}
    return {**claim._asdict(), **parts, "verdict": verdict, "reason": reason}


def _plain(part: Member | Control) -> dict[str, Any]:
    return {**part._asdict(), "rule": part.rule._asdict(), "estimate": part.estimate._asdict()}


def from_payload(payload: Mapping[str, Any]) -> Claim:
    """The claim that a payload records; the stored verdict is not read."""

    def part(kind: type, data: Mapping[str, Any]) -> Any:
        return kind(**{**data, "rule": Rule(**data["rule"]), "estimate": Estimate(**data["estimate"])})

    fields = {name: payload[name] for name in Claim._fields if name not in ("members", "controls")}
    members = tuple(part(Member, data) for data in payload["members"])
    return Claim(**fields, members=members, controls=tuple(part(Control, data) for data in payload["controls"]))


def rounded(value: float, error: float) -> str:
    """A number to the two digits that its error supports, with the error; plain where there is no error.

    >>> rounded(0.0078125, 0.00014)
    '0.00781 \u00b1 0.00014'
    """
    if error == 0:
        return plain(value)
    places = max(0, 1 - int(f"{error:e}".split("e")[1]))
    return f"{value:.{places}f} \u00b1 {error:.{places}f}"


def plain(value: float) -> str:
    """A whole number in full, any other to six digits.

    >>> plain(347326352.0), plain(1 / 3)
    ('347326352', '0.333333')
    """
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.6g}"


def _measured(estimate: Estimate) -> tuple[str, str]:
    """The figure with its error, and what stands behind it."""
    law = "" if estimate.p_value is None else f"p = {estimate.p_value:.2g}, would show {estimate.detectable:.2g}; "
    count = "" if estimate.error == 0 and estimate.n == 1 else f"{estimate.n:,} {estimate.of}s"
    return rounded(estimate.value, estimate.error), law + count


def predicted(rule: Rule) -> str:
    """The prediction as the card shows it; for a direction, the boundary with its sign."""
    sign = {"above": "> ", "below": "< "}.get(rule.kind, "")
    limit = {"above": rule.predicted + rule.delta, "below": rule.predicted - rule.delta}
    if rule.kind in limit:
        return sign + plain(limit[rule.kind])
    return "the law" if rule.kind == "exact law" else plain(rule.predicted)


def text(payload: Mapping[str, Any]) -> str:
    """The claim as plain text; measured figures stand between angle brackets."""
    claim = from_payload(payload)
    lines = [f"{payload['verdict'].upper()}  {claim.says}  [{claim.id}]"]
    lines += [f"  {m.name + ': ' if m.name else ''}{_line(m.rule, m.estimate)}" for m in claim.members]
    lines += [f"  control {c.name}: {_line(c.rule, c.estimate)} (must be: {c.expect})" for c in claim.controls]
    lines.append(f"  unit {claim.unit}; source {claim.source} ({WHOSE[claim.whose]}); basis {BASIS[claim.basis]}")
    return "\n".join([*lines, f"  {payload['reason']}"])


def _line(rule: Rule, estimate: Estimate) -> str:
    measured = "; ".join(filter(None, _measured(estimate)))
    verdict = decide(rule, estimate)
    return f"predicted {predicted(rule)}, tolerance {plain(rule.delta)}, measured \u27e8{measured}\u27e9, {verdict}"


def card(payload: Mapping[str, Any]) -> str:
    """The claim as a card in HTML, readable with the book's style sheet and without."""
    claim, verdict = from_payload(payload), payload["verdict"]
    verdicts = [decide(m.rule, m.estimate) for m in claim.members]
    numbers = _table(_row(m.name, m.rule, m.estimate, v) for m, v in zip(claim.members, verdicts, strict=True))
    checks = _table(_row(c.name, c.rule, c.estimate, _outcome(c)) for c in claim.controls)
    if len(verdicts) > FOLD:
        tally = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in MARK if kind in verdicts)
        numbers = f"<details><summary>{len(verdicts)} numbers: {tally}</summary>{numbers}</details>"
    tests = "; ".join(TESTS[kind] for kind in dict.fromkeys(m.rule.kind for m in claim.members))
    return (
        f'<div class="claim claim-{verdict}" id="{anchor(claim.id)}" style="border-left: 5px solid; padding: 0 1em">'
        f'<p class="claim-says"><b class="claim-verdict">{MARK[verdict]} {verdict}</b> {escape(claim.says)}</p>'
        f"{numbers}<details><summary>Controls, test and source</summary>{checks}"
        f"<p>Unit: {escape(claim.unit)}. Test: {tests}. Verdict: {escape(payload['reason'])}. "
        f"Source: {escape(claim.source)} ({WHOSE[claim.whose]}); basis: {BASIS[claim.basis]}. "
        f"Id: <code>{claim.id}</code></p></details></div>"
    )


def _outcome(control: Control) -> str:
    came = decide(control.rule, control.estimate)
    return f"{came}, as it must" if came == control.expect else f"{came}, but must come out {control.expect}"


def _table(rows: Iterable[str]) -> str:
    head = "<tr><th></th><th>measured</th><th>predicted</th><th>tolerance</th><th></th></tr>"
    return f'<div class="claim-scroll"><table class="claim-numbers">{head}{"".join(rows)}</table></div>'


def _row(name: str, rule: Rule, estimate: Estimate, outcome: str) -> str:
    figure, behind = (f'<data class="measured">{escape(part)}</data>' for part in _measured(estimate))
    cells = (
        escape(name),
        f"{figure}<br><small>{behind}</small>",
        escape(predicted(rule)),
        plain(rule.delta),
        outcome,
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def anchor(id: str) -> str:
    """The HTML id of a claim's card.

    >>> anchor("perceptron/uniform-count")
    'claim-perceptron-uniform-count'
    """
    return "claim-" + id.replace("/", "-")


def payloads(outputs: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The payloads among a cell's outputs."""
    return (output["metadata"][KEY] for output in outputs if KEY in output.get("metadata", {}))


def record(payload: Mapping[str, Any], notebook: str) -> dict[str, Any]:
    """A row of the scoreboard. A family shows the numbers of the member nearest to breaking its rule."""
    claim = from_payload(payload)
    worst = min(claim.members, key=_margin)
    return {
        **{name: payload[name] for name in ("id", "says", "whose", "source", "basis", "unit", "verdict", "reason")},
        "notebook": notebook,
        "predicted": worst.rule.predicted,
        "delta": worst.rule.delta,
        "measured": worst.estimate.value,
        "error": worst.estimate.error,
        "n": worst.estimate.n,
        "test": worst.rule.kind,
        "controls": payload["controls"],
        "members": payload["members"],
    }


def _margin(member: Member) -> float:
    (kind, predicted, delta), e = member.rule, member.estimate
    slack = {
        "agreement": delta - max(e.high - predicted, predicted - e.low),
        "above": e.low - predicted - delta,
        "below": predicted - delta - e.high,
        "identity": delta - abs(e.value - predicted),
        "exact law": e.p_value,
    }[kind]
    return slack / ((e.high - e.low) or 1.0)


def audit(output: Mapping[str, Any]) -> list[str]:
    """What is wrong with a stored claim: an edited verdict, reason, card or text."""
    (payload,) = payloads([output])
    fresh = to_payload(from_payload(payload))
    wrong = [
        f"{payload['id']}: stored {name} is {payload[name]!r}, the payload gives {fresh[name]!r}"
        for name in ("verdict", "reason")
        if payload[name] != fresh[name]
    ]
    shown = {"text/html": card(payload), "text/plain": text(payload)}
    return wrong + [
        f"{payload['id']}: the stored {kind} is not what the payload renders to"
        for kind, expected in shown.items()
        if output["data"].get(kind) != expected
    ]


def compare(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """Where a fresh run departs from the stored one: text, prediction, verdict, or a measured value by five errors."""
    wrong = [
        f"{stored['id']}: {name} was {stored[name]!r}, now {fresh[name]!r}"
        for name in ("id", "says", "whose", "source", "basis", "unit", "verdict")
        if stored[name] != fresh[name]
    ]
    for kind in ("members", "controls"):
        if [part["name"] for part in stored[kind]] != [part["name"] for part in fresh[kind]]:
            return [*wrong, f"{stored['id']}: the {kind} are not the stored ones"]
        for old, new in zip(stored[kind], fresh[kind], strict=True):
            wrong += [f"{stored['id']}, {old['name'] or 'value'}: {problem}" for problem in _departures(old, new)]
    return wrong


def _departures(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    was, now = old["rule"], new["rule"]
    if was["kind"] != now["kind"] or any(abs(was[k] - now[k]) > 1e-9 * abs(now[k]) for k in ("predicted", "delta")):
        yield f"the rule was {was}, now {now}"
    a, b = Estimate(**old["estimate"]), Estimate(**new["estimate"])
    allowed = max((b.high - b.low) / 2, 1e-9 * abs(b.value))
    if abs(a.value - b.value) > allowed:
        yield f"measured {a.value:.6g} is stored, {b.value:.6g} came out; they may differ by {allowed:.2g}"
    if abs(a.error - b.error) > 0.5 * max(a.error, b.error):
        yield f"error {a.error:.3g} is stored, {b.error:.3g} came out"
    if a.of != b.of or abs(a.n - b.n) > 0.1 * max(a.n, b.n):  # how many draws fall into a class may depend on rounding
        yield f"{a.n} units ({a.of}) are stored, {b.n} ({b.of}) came out"
