"""The sections [dataset], [train], [test] and [miniature]: the data sets and their splits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Positive, Section, Seed

GENERATED = "generated"
"""The value of `dataset.root` that asks for the miniature of the section [miniature], made inside the store."""


class DatasetSection(Section):
    """The location of one data set and the selection of its records."""

    kind: Literal["a2d", "jhmdb", "folder", "rvos", "reference"] = Field(
        description="layout; folder, rvos: docs/own_data.md; reference: features, the authors' folder"
    )
    root: str = Field(min_length=1, description="folder, relative to the working directory; or 'generated'")
    shards: Positive = Field(description="files that each sharded stage is cut into, per split")
    exclude: dict[str, str] = Field(description="video id -> the reason why it is left out")
    groups: str = Field(description="CSV under root (video_id,instance_id,group) that splits the scores; '' for none")
    labelled: str = Field(
        min_length=1, description="'even'; for J-HMDB a JSON list of its labelled frames; for rvos even:N or every:N"
    )
    absent: Literal["drop", "empty"] = Field(description="a labelled frame without the instance: no sample, or no mask")
    expect: Literal["none", "published"] = Field(
        description="'published': `acga check` compares counts with the papers'"
    )
    test_share: Annotated[
        float, Field(ge=0, le=1, description="of the videos of a folder whose sentences.csv names no split")
    ]
    split_seed: Seed = Field(description="draws that share")
    max_failures: Annotated[int, Field(ge=0, description="videos of a split that may be left out as unreadable")]


class SetSection(Section):
    """The videos of one role (train or test): the name of a data set and its split."""

    dataset: str
    split: Literal["train", "test", "all"]


class MiniatureSection(Section):
    """The parameters of the generated data set (`data.miniature.scenes.Spec`)."""

    seed: Seed
    train_clips: Positive
    test_clips: Positive
    size: Annotated[int, Field(ge=48, multiple_of=2, description="height and width of a video")]
    frames: Annotated[int, Field(ge=24, le=332, description="frames of a video")]
    labels: Annotated[int, Field(ge=1, le=3, description="labelled frames of a video")]
