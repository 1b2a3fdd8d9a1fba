"""The lines on failure signatures: each alarm once, with the runs it is of."""

from megatron_snow.ablation.alarms import lines


def test_alarms_name_their_runs():
    tiers = [{"runs": ["a/seed-1", "a/seed-2"], "signatures": {"alarms": ["bias"]}}, {"runs": ["b/seed-1"], "signatures": {"alarms": ["bias", "copies"]}}]
    training = {"a/seed-1": {"alarms": ["rise"]}, "a/seed-2": {"alarms": []}, "b/seed-1": {"alarms": []}}
    assert lines({"tiers": tiers, "training": training}) == ["- bias: all runs", "- copies: b/seed-1", "- rise: a/seed-1"]


def test_no_alarm_is_said():
    assert lines({"tiers": [], "training": {"a/seed-1": {"alarms": []}}}) == ["No alarm went off."]
