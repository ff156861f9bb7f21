"""The catalogue of known defects."""

import typing

import pytest

from data.defects import RULES, Hits, Outcome


def test_the_catalogue_has_a_rule_for_every_known_defect() -> None:
    known = {
        *("duplicate_instance", "surplus_mask", "copied_row", "missed_video", "absent_instance", "beyond_last_mask"),
        *("frame_count", "label_past_end", "empty_mask", "mask_size", "quarantined"),
    }
    assert known <= set(RULES)
    assert all(rule.id == name for name, rule in RULES.items())


def test_every_rule_says_what_it_detects_and_what_is_done() -> None:
    for rule in RULES.values():
        assert rule.detects and rule.done and rule.outcome in typing.get_args(Outcome)
        assert not rule.detects.endswith(".") and not rule.done.endswith(".")
    assert len({rule.detects for rule in RULES.values()}) == len(RULES)


def test_only_masks_of_another_size_are_refused() -> None:
    assert [rule.id for rule in RULES.values() if rule.outcome == "refused"] == ["mask_size"]


def test_hits_are_collected_by_rule_in_the_order_of_the_catalogue() -> None:
    hits = Hits()
    assert hits.collected() == {}
    for rule, record in [("surplus_mask", "b"), ("header_line", "line 1"), ("surplus_mask", "a")]:
        hits.add(rule, record)
    assert list(hits.collected().items()) == [("header_line", ("line 1",)), ("surplus_mask", ("b", "a"))]


def test_a_rule_that_the_catalogue_has_not_is_an_error() -> None:
    with pytest.raises(KeyError, match="new_defect"):
        Hits().add("new_defect", "video")
