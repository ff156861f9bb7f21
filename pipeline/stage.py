"""One stage as a Luigi task whose identity is content.

Luigi calls a task done when its output exists, whatever was changed upstream. Here a task's output lies under a key
made of everything that decides its content: the stage, the config sections that it reads, its code, its raw members
and the content hashes of its inputs. Keys are bound late: while an input is not there, there is no key, and the task
is not complete.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import luigi

from pipeline import building, catalogue, disk
from pipeline.artifact import Artifact
from pipeline.config import parse_sections
from pipeline.journal import Journal
from pipeline.key import code_digest, current_digest, digest
from pipeline.recipes.orphans import end_with_run

log = logging.getLogger(__name__)


class CodeChanged(RuntimeError):
    """The source files of a recipe changed between planning and running."""


class RefusedBefore(RuntimeError):
    """A task that refused its input is not tried again in the same run."""


class InputGone(RuntimeError):
    """What a task was to read is not there any more."""


class Stage(luigi.Task):
    """A kind of artifact. Subclasses declare; `run` is the same for all."""

    store = luigi.Parameter(significant=False)
    journal = luigi.Parameter(significant=False, description="file that this run's events are appended to")
    sections = luigi.Parameter(description="config sections of this stage and of everything upstream, compact JSON")
    catalogue = luigi.Parameter(description="digest of the raw files")
    code = luigi.Parameter(description="digest of the recipe's code; a worker whose files differ refuses")

    recipe: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()  # sections of the config, or single keys ("frames.size"); recipes see no more
    carries: ClassVar[tuple[str, ...]] = ()  # sections that decide nothing but which inputs and members there are
    consumes: ClassVar[tuple[type[Stage], ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()
    by_video: ClassVar[tuple[str, ...] | None] = None  # the inputs that are made of videos; None: not made by videos

    def inputs(self) -> list[Stage]:
        """The artifacts that this one is made from."""
        return []

    def members(self) -> Any:
        """The raw records that this artifact is about."""
        return {}

    def videos(self) -> list[str]:
        """The ids of the videos that it is made of, where it is made by videos."""
        return []

    @property
    def label(self) -> str:
        """What tells this task from the others of its stage, for people."""
        return ""

    @property
    def provides(self) -> tuple[str, ...]:
        """The names under which recipes find this artifact among their inputs."""
        return (self.stage,)

    # What Luigi asks

    # Luigi types this as an attribute and documents overriding it by a property.
    @property
    def resources(self) -> dict[str, int]:  # type: ignore[override]
        """Stages that compute with torch fill their threads: a `luigid` allows one at a time unless it says more."""
        return {"torch": 1} if "compute" in self.reads else {}

    def requires(self) -> list[Stage]:
        return self.upstream_tasks

    def complete(self) -> bool:
        artifact = self.artifact()
        return artifact is not None and artifact.complete()

    def run(self) -> None:
        end_with_run()
        speak()
        journal = Journal(Path(self.journal))
        for event in journal.events():
            if (event["stage"], event["task"], event.get("kind")) == (self.stage, self.label, "refused"):
                raise RefusedBefore(event["error"])
        try:
            artifact, facts = self.build()
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            try:
                kind, line = _told(error, Path(self.store))
                journal.record("failed", self.stage, self.label, kind=kind, error=line, trace=trace)
            except OSError:  # the same disk
                log.error("%s %s: %s", self.stage, self.label, _line(error))
            raise
        journal.record("executed" if facts else "reused", self.stage, self.label, key=artifact.key, **facts)

    # Identity

    @property
    def stage(self) -> str:
        return type(self).__name__

    @classmethod
    def needs(cls) -> frozenset[str]:
        """The sections that this stage or anything upstream reads."""
        own = {name.partition(".")[0] for name in cls.reads + cls.carries}
        return frozenset(own).union(*(upstream.needs() for upstream in cls.consumes))

    @cached_property
    def values(self) -> dict[str, dict[str, Any]]:
        """All sections carried, name -> values."""
        return parse_sections(self.sections)

    @cached_property
    def upstream_tasks(self) -> list[Stage]:
        """`inputs()`, made once."""
        return self.inputs()

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker: it makes the tasks upstream itself."""
        return {name: value for name, value in self.__dict__.items() if name != "upstream_tasks"}

    @property
    def raw(self) -> dict[str, Any]:
        """The catalogue."""
        return catalogue.read(Path(self.store), self.catalogue)

    def upstream(self, stage: type[Stage], **parameters: Any) -> Stage:
        """A task of another stage of the same experiment."""
        places = {"store": self.store, "journal": self.journal}
        return stage.of(self.values, catalogue=self.catalogue, **places, **parameters)

    @classmethod
    def of(cls, values: Mapping[str, Any], **parameters: Any) -> Self:
        """The task of this stage for an experiment; sections that it does not need are left out."""
        kept = {name: values[name] for name in sorted(cls.needs())}
        return cls(sections=_compact(kept), code=code_digest(cls.recipe), **parameters)

    def recipe_sections(self) -> dict[str, dict[str, Any]]:
        """The sections that the recipe reads; a path stands there as "file", since content counts and not its place."""
        sections: dict[str, dict[str, Any]] = {}
        for name in self.reads:
            section, _, key = name.partition(".")
            values = self.values[section]
            sections.setdefault(section, {}).update({key: values[key]} if key else values)
        for key in self.raw["files"]:
            section, _, name = key.partition(".")
            if name in sections.get(section, {}):
                sections[section][name] = "file"
        return sections

    def ingredients(self) -> dict[str, Any] | None:
        """Everything that decides the content, or None while an input is not there."""
        inputs: dict[str, str] = {}
        for number, task in enumerate(self.upstream_tasks):
            content = task.content()
            if content is None:
                return None
            inputs[f"{number:04d} {task.stage}"] = content
        return {
            "stage": self.stage,
            "sections": self.recipe_sections(),
            "code": self.code,
            "members": digest(catalogue.identity(self.raw_members())),
            "inputs": inputs,
        }

    def likeness(self, ingredients: dict[str, Any]) -> str | None:
        """Digest of what decides the content apart from the videos; None where the stage is not made by videos."""
        if self.by_video is None:
            return None
        members = catalogue.identity(self.raw_members())
        records = {name: value for name, value in members["records"].items() if name != "videos"}
        others = {name: value for name, value in ingredients["inputs"].items() if name[5:] not in self.by_video}
        kept = {name: ingredients[name] for name in ("stage", "sections", "code")}
        return digest({**kept, "members": members | {"records": records}, "inputs": others})

    def raw_members(self) -> Any:
        """Members together with the raw files that the config names for this stage."""
        named = {key: self.raw["files"][key] for key in self.files if key in self.raw["files"]}
        return {"records": self.members(), "files": named}

    def artifact(self) -> Artifact | None:
        """Where the result lies or will lie; None while an input is not there."""
        if "_artifact" not in self.__dict__:
            ingredients = self.ingredients()
            if ingredients is None:
                return None
            self.__dict__["_artifact"] = Artifact(Path(self.store), self.stage, digest(ingredients))
        return self.__dict__["_artifact"]

    def content(self) -> str | None:
        """The content hash of the published result, or None."""
        if self.__dict__.get("_content") is None:
            artifact = self.artifact()
            self.__dict__["_content"] = None if artifact is None else artifact.content()
        return self.__dict__["_content"]

    # Building

    def build(self) -> tuple[Artifact, dict[str, Any]]:
        """The published artifact, and what building it cost (nothing if it was there)."""
        if current_digest(self.recipe) != self.code:
            raise CodeChanged(f"{self.stage}: the source files changed after this run was planned; run it again")
        artifact = self.artifact()
        ingredients = self.ingredients()
        if artifact is None or ingredients is None:
            raise InputGone(f"{self.stage} {self.label}: an input is gone; run again")
        with artifact.lock(), ExitStack() as reading:
            if artifact.complete():
                return artifact, {}
            for below in self.upstream_tasks:
                if (place := below.artifact()) is not None:
                    reading.enter_context(place.reading())
            gone = [f"{below.stage} {below.label}" for below in self.upstream_tasks if not below.complete()]
            if gone:
                raise InputGone(f"{self.stage} {self.label}: {gone[0].strip()} was deleted meanwhile; run again")
            return artifact, building.build(self, artifact, ingredients)


def speak() -> None:
    """Log as people want to read it, in whichever process this is; Luigi's own words go to nobody."""
    disk.hush()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    logging.getLogger("luigi-interface").setLevel(logging.CRITICAL + 1)
    logging.getLogger("luigi").setLevel(logging.CRITICAL + 1)


def _told(error: Exception, store: Path) -> tuple[str, str]:
    """An error's kind and what it says; HDF5 may lose what a full disk did not take, and something else notices."""
    full = None if disk.trouble(error) else disk.full(store)
    return (_kind(error), _line(error)) if full is None else ("refused", f"{full} (noticed by: {_line(error)})")


def _line(error: Exception) -> str:
    text = disk.trouble(error) or " ".join(str(error).split()) or "no message"
    return text if _kind(error) != "unexpected" else f"{type(error).__name__}: {text}"


def _kind(error: Exception) -> str:
    """ "refused" for an error class of ours, whose message is meant for users, and where the disk is at fault;
    "transient" where an error says that trying again may help; else "unexpected"."""
    if disk.trouble(error):
        return "refused"
    ours = type(error).__module__.partition(".")[0] in ("data", "extractors", "models", "pipeline")
    if not ours:
        return "unexpected"
    return "transient" if getattr(error, "transient", False) else "refused"


def _compact(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"), sort_keys=True)
