"""The base class of the stages: a Luigi task that is identified by the content of its inputs.

Luigi considers a task complete when its output exists, even if something upstream has changed. Here the output of a
task is stored under a key that hashes everything that determines its content: the stage, the config sections that it
reads, its code, its raw members and the content hashes of its inputs. Keys are computed late: while an input does not
exist, the task has no key and is not complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import luigi
from luigi.parameter import ParameterVisibility
from luigi.task import task_id_str

from pipeline.config import parse_sections
from pipeline.engine import catalogue
from pipeline.engine.key import code_digest
from pipeline.store.artifact import Artifact
from pipeline.store.canonical_json import digest

Task = TypeVar("Task", bound="Stage")

HIDDEN = ParameterVisibility.HIDDEN


class Stage(luigi.Task):
    """A kind of artifact. Subclasses declare what determines its content; `RunnableStage` builds it."""

    # Luigi's page shows only what distinguishes the tasks of an experiment: role, stream and shard.
    store = luigi.Parameter(significant=False, visibility=HIDDEN)
    journal = luigi.Parameter(
        significant=False, visibility=HIDDEN, description="file that this run's events are appended to"
    )
    sections = luigi.Parameter(
        visibility=HIDDEN, description="config sections of this stage and of everything upstream, compact JSON"
    )
    catalogue = luigi.Parameter(visibility=HIDDEN, description="digest of the raw files")
    code = luigi.Parameter(
        visibility=HIDDEN, description="digest of the stage's code; a worker whose files differ refuses"
    )

    def __init__(self, *values: Any, **parameters: Any) -> None:
        super().__init__(*values, **parameters)  # type: ignore[no-untyped-call]
        # Luigi's own id leaves hidden parameters out, so that two seeds of an experiment would be one task.
        parameters = self.to_str_params(only_significant=True)  # type: ignore[no-untyped-call]
        self.task_id = task_id_str(self.stage, parameters)

    implementation: ClassVar[str]  # the module whose `build` writes the files and whose `Settings` lists the sections
    reads: ClassVar[tuple[str, ...]] = ()  # sections of the config, or single keys ("frames.size")
    carries: ClassVar[tuple[str, ...]] = ()  # sections that determine only which inputs and members there are
    consumes: ClassVar[tuple[type[Stage], ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()
    by_video: ClassVar[tuple[str, ...] | None] = None  # inputs made video by video; None: this stage is not so made

    def inputs(self) -> Sequence[Stage]:
        """Return the tasks whose artifacts this one is made from."""
        return []

    def members(self) -> Any:
        """Return the raw records that this artifact covers."""
        return {}

    def videos(self) -> list[str]:
        """Return the ids of the videos that the artifact covers, if it is made video by video."""
        return []

    @property
    def label(self) -> str:
        """Return a readable name that distinguishes this task from the others of its stage."""
        return ""

    @property
    def provides(self) -> tuple[str, ...]:
        """Return the names under which another stage finds this artifact among its inputs."""
        return (self.stage,)

    @property
    def slots(self) -> int:
        """Return how many slots of a host the task takes while it runs: one if it computes with torch, else none."""
        return int("compute" in self.reads)

    # The attributes and methods that Luigi reads and calls

    retry_count = 2  # a task killed from outside is tried again, whatever the configuration of the scheduler

    def requires(self) -> list[Stage]:
        return self.upstream_tasks

    def complete(self) -> bool:
        artifact = self.artifact()
        return artifact is not None and artifact.complete()

    # Identity

    @property
    def stage(self) -> str:
        return type(self).__name__

    @classmethod
    def needs(cls) -> frozenset[str]:
        """Return the sections that this stage or any stage upstream reads or carries."""
        own = {name.partition(".")[0] for name in cls.reads + cls.carries}
        return frozenset(own).union(*(upstream.needs() for upstream in cls.consumes))

    @cached_property
    def values(self) -> dict[str, dict[str, Any]]:
        """Return all config sections in the task's parameters, by name."""
        return parse_sections(self.sections)

    @cached_property
    def upstream_tasks(self) -> list[Stage]:
        """Return the tasks of `inputs()`, which are created only once."""
        return list(self.inputs())

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle, without the upstream tasks, which the worker creates itself."""
        return {name: value for name, value in self.__dict__.items() if name != "upstream_tasks"}

    @property
    def raw(self) -> dict[str, Any]:
        """Return the catalogue of the raw files."""
        return catalogue.read(Path(self.store), self.catalogue)

    def upstream(self, stage: type[Task], **parameters: Any) -> Task:
        """Return a task of another stage of the same experiment."""
        places = {"store": self.store, "journal": self.journal}
        return stage.of(self.values, catalogue=self.catalogue, **places, **parameters)

    @classmethod
    def of(cls, values: Mapping[str, Any], **parameters: Any) -> Self:
        """Return the task of this stage for an experiment; sections that it does not need are left out."""
        kept = {name: values[name] for name in sorted(cls.needs())}
        return cls(sections=_compact(kept), code=code_digest(cls.implementation), **parameters)

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the sections that the stage reads, with each path replaced by "file", as only the content counts."""
        sections: dict[str, dict[str, Any]] = {}
        for name in self.reads:
            section, _, key = name.partition(".")
            values = self.values[section]
            sections.setdefault(section, {}).update({key: values[key]} if key else values)
        for key in self.raw["files"]:
            section, _, name = key.partition(".")
            if name in sections.get(section, {}):
                sections[section][name] = "file"
        if "compute" in sections:  # which of several GPUs computes makes no difference
            sections["compute"] = sections["compute"] | {"device": sections["compute"]["device"].partition(":")[0]}
        return sections

    def ingredients(self) -> dict[str, Any] | None:
        """Return everything that determines the content, or None while an input does not exist."""
        inputs: dict[str, str] = {}
        for number, task in enumerate(self.upstream_tasks):
            content = task.content()
            if content is None:
                return None
            inputs[f"{number:04d} {task.stage}"] = content
        return {
            "stage": self.stage,
            "sections": self.settings(),
            "code": self.code,
            "members": digest(catalogue.identity(self.raw_members())),
            "inputs": inputs,
        }

    def likeness(self, ingredients: dict[str, Any]) -> str | None:
        """Return the digest of what determines the content except the videos; None if not made video by video."""
        if self.by_video is None:
            return None
        members = catalogue.identity(self.raw_members())
        records = {name: value for name, value in members["records"].items() if name != "videos"}
        others = {name: value for name, value in ingredients["inputs"].items() if name[5:] not in self.by_video}
        kept = {name: ingredients[name] for name in ("stage", "sections", "code")}
        return digest({**kept, "members": members | {"records": records}, "inputs": others})

    def raw_members(self) -> Any:
        """Return the members together with the raw files that the config names for this stage."""
        named = {key: self.raw["files"][key] for key in self.files if key in self.raw["files"]}
        return {"records": self.members(), "files": named}

    def artifact(self) -> Artifact | None:
        """Return the artifact, published or not, or None while an input does not exist."""
        known: Artifact | None = self.__dict__.get("_artifact")
        if known is None and (ingredients := self.ingredients()) is not None:
            known = self.__dict__["_artifact"] = Artifact(Path(self.store), self.stage, digest(ingredients))
        return known

    def content(self) -> str | None:
        """Return the content hash of the published artifact, or None."""
        known: str | None = self.__dict__.get("_content")
        if known is None and (artifact := self.artifact()) is not None:
            known = self.__dict__["_content"] = artifact.content()
        return known


def _compact(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"), sort_keys=True)
