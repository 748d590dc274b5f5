"""Scale, seed and device, read once; the streams that follow from them."""

import numpy as np
import pytest
import torch

from occamnets import settings


def test_a_notebook_that_is_told_nothing_runs_at_book_scale_with_seed_0_on_the_processor():
    assert settings.load({}) == ("book", 0, "cpu")


def test_only_runs_at_paper_scale_keep_their_chunks():
    assert settings.load({}).folder is None
    assert settings.load({"OCCAM_SCALE": "paper"}).folder == settings.CHUNKS


def test_all_three_are_read_from_the_environment(monkeypatch):
    for name, value in (("SCALE", "paper"), ("SEED", "1007"), ("DEVICE", "cuda")):
        monkeypatch.setenv(f"OCCAM_{name}", value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert settings.load() == ("paper", 1007, "cuda")


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("OCCAM_SCALE", "huge", "book, paper"),
        ("OCCAM_SEED", "-1", "whole number"),
        ("OCCAM_SEED", "two", "whole number"),
        ("OCCAM_SEED", "", "whole number"),
        ("OCCAM_DEVICE", "tpu", "cpu, cuda"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_needed(name, value, needed):
    with pytest.raises(ValueError, match=f"{name}='{value}': .*{needed}"):
        settings.load({name: value})


def test_a_gpu_that_is_asked_for_and_missing_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="OCCAM_DEVICE='cuda', but torch finds no GPU"):
        settings.load({"OCCAM_DEVICE": "cuda"})


def test_the_scale_chooses_the_size():
    assert [settings.Settings(scale, 0, "cpu").size(book=1, paper=2) for scale in settings.SCALES] == [1, 2]


def test_a_stream_depends_on_name_and_seed_alone_and_is_the_same_everywhere():
    def first(seed, name, scale="book", device="cpu"):
        return settings.Settings(scale, seed, device).stream(name).generate_state(1, np.uint64)[0]

    assert first(0, "P(t)") == first(0, "P(t)", "paper", "cuda") == 11720437945528253487
    assert len({first(seed, name) for seed in (0, 1) for name in ("P(t)", "P(f)")}) == 4
