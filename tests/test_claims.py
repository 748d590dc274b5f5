"""A claim's verdict, its record, and the two checks that turn an edited notebook red."""

import copy
import json
from html.parser import HTMLParser

import pytest

from occamnets import claims, stats
from occamnets.claims import must_fail, must_hold

HALF = stats.agreement(0.5, delta=0.1)
WRONG = stats.agreement(0.75, delta=0.1)


def measured(value, error=0.01):
    return stats.Estimate(value, error, value - 5 * error, value + 5 * error, 2500, "draw")


PLAIN = {
    "says": "Half of all coins fall on heads.",
    "source": "mingard2019",
    "whose": "paper",
    "basis": "theory",
    "unit": "probability",
    "rule": HALF,
    "estimate": measured(0.5),
    "controls": [must_fail("three quarters", rule=WRONG)],
}


@pytest.fixture
def settle(monkeypatch):
    """Settle a claim that differs from `PLAIN` as told; gives the output as a notebook stores it."""
    outputs = []

    def display(data, *, raw, metadata):
        assert raw
        outputs.append({"data": data, "metadata": json.loads(json.dumps(metadata))})

    def settled(id="chapter/name", **changes):
        claims.settle(id, **{**PLAIN, **changes})
        return outputs[-1]

    monkeypatch.setattr(claims, "display", display)
    return settled


def payload_of(output):
    (payload,) = claims.payloads([{"output_type": "stream", "name": "stdout"}, output])
    return payload


# The verdict


@pytest.mark.parametrize(
    ("value", "controls", "verdict", "reason"),
    [
        (0.5, [must_fail("wrong", rule=WRONG)], "holds", "every control came out as stated"),
        (0.54, [must_fail("wrong", rule=stats.agreement(0.8, 0.1))], "holds", "every number"),
        (0.58, [must_fail("wrong", rule=stats.agreement(0.8, 0.1))], "undecided", "too uncertain"),
        (0.9, [must_hold("nine tenths", rule=stats.agreement(0.9, 0.1))], "fails", "outside the prediction"),
        (0.9, [must_fail("wrong", rule=HALF)], "undecided", "no positive control"),
        (0.5, [must_hold("other coin", estimate=measured(0.51))], "undecided", "no control shows"),
        (0.5, [must_fail("the same again", rule=HALF)], "undecided", "“the same again” is holds, not fails"),
        (0.5, [must_fail("too near", rule=stats.agreement(0.62, 0.1))], "undecided", "“too near” is undecided, not"),
        (0.5, [must_fail("wrong", rule=WRONG), must_hold("dead", estimate=measured(0.9))], "undecided", "“dead” is"),
        (0.9, [must_hold("dead", estimate=measured(0.9))], "undecided", "“dead” is fails, not holds"),
    ],
)
def test_verdict_and_reason(settle, value, controls, verdict, reason):
    payload = payload_of(settle(estimate=measured(value), controls=controls))
    assert payload["verdict"] == verdict
    assert reason in payload["reason"]


@pytest.mark.parametrize(
    ("values", "verdict", "named"),
    [
        ({"a": 0.5, "b": 0.51}, "holds", ""),
        ({"a": 0.5, "b": 0.58}, "undecided", ": b"),
        ({"a": 0.9, "b": 0.58, "c": 0.5, "d": 0.1}, "fails", ": a, d"),
    ],
)
def test_a_family_is_as_good_as_its_worst_member(settle, values, verdict, named):
    estimates = {name: measured(value) for name, value in values.items()}
    controls = [
        must_fail("wrong", rule=WRONG, estimate=measured(0.5)),
        must_hold("right", rule=HALF, estimate=measured(0.5)),
    ]
    payload = payload_of(settle(estimate=estimates, controls=controls))
    assert payload["verdict"] == verdict
    assert payload["reason"].endswith(named)


def test_a_family_may_have_a_rule_for_each_member(settle):
    changes = {"rule": {"a": HALF, "b": stats.above(0.6, 0.1)}, "estimate": {"b": measured(0.9), "a": measured(0.5)}}
    output = settle(**changes, controls=[must_fail("wrong", rule=WRONG, estimate=measured(0.5))])
    assert payload_of(output)["verdict"] == "holds"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"id": "Chapter/name"}, "'Chapter/name'.*chapter/short-name"),
        ({"id": "name"}, "'name'"),
        ({"id": "a/b/c"}, "'a/b/c'"),
        ({"id": "a/b\n"}, r"'a/b\\n'"),
        ({"whose": "theirs"}, "whose='theirs'"),
        ({"basis": "hope"}, "basis='hope'"),
        ({"controls": []}, "chapter/name: a claim needs a control"),
        ({"estimate": {}}, "estimates for \\[\\]"),
        ({"rule": {"a": HALF}, "estimate": {"b": measured(0.5)}}, r"rules for \['a'\], estimates for \['b'\]"),
        ({"estimate": {"a": measured(0.5), "b": measured(0.5)}}, "'three quarters' of a family"),
    ],
)
def test_a_claim_out_of_form_is_named(settle, changes, named):
    with pytest.raises(ValueError, match=named):
        settle(**changes)


# The record


def test_the_payload_is_plain_data_and_gives_the_claim_back(settle):
    estimate = stats.law_test(stats.np.array([2510, 2490]), stats.np.array([0.5, 0.5]))
    law = {"rule": stats.exact_law(0.2), "estimate": estimate}
    for changes in ({}, law | {"controls": [must_hold("itself"), must_fail("wrong", rule=WRONG)]}):
        payload = payload_of(settle(**changes))
        claim = claims.from_payload(payload)
        assert claims.to_payload(claim) == payload
        assert claim.members[0].estimate == changes.get("estimate", PLAIN["estimate"])
        assert claim.controls[-1] == must_fail("wrong" if changes else "three quarters", rule=WRONG)._replace(
            estimate=claim.members[0].estimate
        )


@pytest.mark.parametrize(
    ("rule", "values", "p_values"),
    [
        (HALF, (0.5, 0.54, 0.47), (None, None, None)),
        (HALF, (0.5, 0.46, 0.53), (None, None, None)),
        (stats.above(0.0, 0.1), (0.9, 0.3, 0.4), (None, None, None)),
        (stats.below(1.0, 0.1), (0.1, 0.7, 0.6), (None, None, None)),
        (stats.identity(0.5, 0.2), (0.5, 0.65, 0.4), (None, None, None)),
        (stats.exact_law(0.1), (0.5, 0.5, 0.5), (0.9, 0.01, 0.5)),
    ],
)
def test_the_scoreboard_shows_the_member_nearest_to_breaking_its_rule(settle, rule, values, p_values):
    estimates = {
        name: measured(value)._replace(n=n, p_value=p_value, detectable=0.01)
        for name, value, p_value, n in zip(("far", "near", "middle"), values, p_values, (1, 2, 3), strict=True)
    }
    output = settle(rule=rule, estimate=estimates, controls=[must_fail("wrong", rule=WRONG, estimate=measured(0.5))])
    row = claims.record(payload_of(output), "chapter/01.ipynb")
    assert (row["measured"], row["n"]) == (values[1], 2)
    assert (row["test"], row["predicted"], row["delta"]) == rule
    assert (row["id"], row["verdict"], row["notebook"]) == ("chapter/name", "holds", "chapter/01.ipynb")


class Reader(HTMLParser):
    """Tags, balanced, and the text that a browser would show."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.shown = [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, _):
        self.tags.append(tag)
        self.open += [] if tag == "br" else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown += data


def test_card_and_text_show_what_was_said_predicted_measured_and_decided(settle):
    output = settle(estimate=measured(0.5123, 0.0021))
    for shown in (Reader(output["data"]["text/html"]).shown, output["data"]["text/plain"]):
        for part in (PLAIN["says"], "0.5123 ± 0.0021", "2,500 draws", "0.75", "three quarters", "as published"):
            assert part in shown
    assert 'id="claim-chapter-name"' in output["data"]["text/html"]
    assert "✓ holds" in output["data"]["text/html"]
    assert output["data"]["text/plain"].startswith("HOLDS")


def test_whatever_is_said_stays_text_on_the_card(settle):
    evil = "<script>a & b</script>"
    controls = [must_fail(evil, rule=WRONG, estimate=measured(0.5))]
    estimate = {evil: measured(0.5)._replace(of=evil)}
    output = settle(says=evil, unit=evil, source=evil, estimate=estimate, controls=controls)
    card = Reader(output["data"]["text/html"])
    assert "script" not in card.tags
    assert card.shown.count(evil) == 6  # says, unit, source, member, its unit of n, control
    assert output["data"]["text/plain"].count(evil) == 6


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.1 + 0.2, 0.0, "0.3"),
        (0.123456, 0.00123, "0.1235 ± 0.0012"),
        (1234.567, 12.3, "1235 ± 12"),
        (-5.0, 0.25, "-5.00 ± 0.25"),
    ],
)
def test_numbers_are_rounded_to_what_their_error_supports(value, error, shown):
    assert claims.rounded(value, error) == shown


def test_the_prediction_of_a_direction_is_its_boundary():
    rules = (HALF, stats.above(0.5, 0.1), stats.below(0.5, 0.1), stats.exact_law(0.1))
    assert [claims.predicted(rule) for rule in rules] == ["0.5", "> 0.6", "< 0.4", "the law"]


# The audit of what is stored, and the comparison with a fresh run


def edited(output, **changes):
    """The output with the payload's fields replaced; a double underscore goes one level down."""
    output = copy.deepcopy(output)
    for path, value in changes.items():
        *way, last = path.split("__")
        place = payload_of(output)
        for step in way:
            place = place[int(step) if step.isdecimal() else step]
        place[last] = value
    return output


EDITS = [
    {"verdict": "fails"},
    {"reason": "because"},
    {"says": "All coins fall on heads."},
    {"members__0__rule__predicted": 0.4},
    {"members__0__rule__delta": 0.2},
    {"members__0__estimate__value": 0.48},
    {"members__0__estimate__value": 0.9, "members__0__estimate__low": 0.85, "members__0__estimate__high": 0.95},
    {"members__0__estimate__n": 10**6},
    {"controls__0__expect": "holds"},
    {"controls__0__name": "one third"},
    {"controls__0__rule__predicted": 0.3},
]


def test_what_settle_showed_passes_the_audit(settle):
    assert claims.audit(settle()) == []


@pytest.mark.parametrize("changes", EDITS, ids=str)
def test_the_audit_finds_an_edited_payload(settle, changes):
    problems = claims.audit(edited(settle(), **changes))
    assert problems
    assert all(problem.startswith("chapter/name: ") for problem in problems)


@pytest.mark.parametrize("changes", EDITS[:2], ids=str)
def test_the_audit_finds_an_edited_verdict_or_reason_even_on_cards_drawn_anew(settle, changes):
    output = edited(settle(), **changes)
    payload = payload_of(output)
    output["data"] = {"text/html": claims.card(payload), "text/plain": claims.text(payload)}
    assert len(claims.audit(output)) == 1


@pytest.mark.parametrize("kind", ["text/html", "text/plain"])
def test_the_audit_finds_an_edited_or_missing_card_or_text(settle, kind):
    output, bare = settle(), settle()
    output["data"][kind] = output["data"][kind].replace("0.500", "0.501")
    del bare["data"][kind]
    for problems in (claims.audit(output), claims.audit(bare)):
        assert problems == [f"chapter/name: the stored {kind} is not what the payload renders to"]


def test_the_same_run_again_compares_equal(settle):
    assert claims.compare(payload_of(settle()), payload_of(settle())) == []


def test_values_may_differ_by_five_errors_and_no_more(settle):
    loose = {"rule": stats.agreement(0.5, 0.25), "controls": [must_fail("nine tenths", rule=stats.agreement(0.9, 0.1))]}
    stored, *fresh = (payload_of(settle(**loose, estimate=measured(value))) for value in (0.5, 0.5499, 0.5501))
    assert claims.compare(stored, fresh[0]) == []
    assert claims.compare(stored, fresh[1]) == [
        "chapter/name, value: measured 0.5 is stored, 0.5501 came out; they may differ by 0.05",
        "chapter/name, nine tenths: measured 0.5 is stored, 0.5501 came out; they may differ by 0.05",
    ]


def test_an_exact_value_may_not_differ_beyond_rounding(settle):
    exact = {"rule": stats.identity(32.0, 0.1), "controls": [must_fail("wrong", rule=stats.identity(31.0, 0.1))]}
    stored, *fresh = (payload_of(settle(**exact, estimate=stats.exact(value))) for value in (32.0, 32 + 1e-9, 32.001))
    assert claims.compare(stored, fresh[0]) == []
    assert len(claims.compare(stored, fresh[1])) == 2  # value and control


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"verdict": "fails"}, "verdict was 'fails', now 'holds'"),
        ({"says": "All coins."}, "says was 'All coins.'"),
        ({"unit": "per cent"}, "unit was"),
        ({"source": "ours"}, "source was"),
        ({"members__0__rule__predicted": 0.50001}, "the rule was"),
        ({"members__0__rule__delta": 0.2}, "the rule was"),
        ({"members__0__rule__kind": "above"}, "the rule was"),
        ({"members__0__name": "coin"}, "the members are not the stored ones"),
        ({"members__0__estimate__value": 0.56}, "value: measured 0.56 is stored, 0.5 came out"),
        ({"members__0__estimate__value": 0.44}, "value: measured 0.44 is stored, 0.5 came out"),
        ({"members__0__estimate__error": 0.03}, "error 0.03 is stored"),
        ({"members__0__estimate__of": "network"}, "units (network) are stored"),
        ({"members__0__estimate__n": 7}, "7 units"),
        ({"controls__0__rule__predicted": 0.9}, "three quarters: the rule was"),
        ({"controls__0__estimate__value": 0.6}, "three quarters: measured 0.6 is stored"),
        ({"controls": []}, "the controls are not the stored ones"),
    ],
    ids=str,
)
def test_a_fresh_run_finds_what_was_edited_in_the_stored_payload(settle, changes, found):
    problems = claims.compare(payload_of(edited(settle(), **changes)), payload_of(settle()))
    assert any(found in problem for problem in problems)
