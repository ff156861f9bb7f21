"""Masks of any video for any sentences, by a trained network: what `acga segment` does.

A clip goes the way of Frames, Flow, VisualFeatures and Predictions, by their own functions: a labelled frame of the
data set gets the mask that a run predicts for it. A few clips are held at a time, however long the video is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float

from data.letterbox import Letterbox
from data.masks import encode_rle
from extractors.clips import Clips, Source, decode
from extractors.flow import flow_fields
from extractors.frames import Decoder, FrameOutOfRange
from extractors.halves import halved, restored
from extractors.text import WordVectors, tokens, word_vectors
from extractors.visual import batches_of, extract
from models import checkpoints
from models.acga import ACGA
from models.folded import folded
from models.inference import predict
from models.metrics import acga_prediction, coco_prediction
from pipeline import folders, locks, run
from pipeline.config import Config
from pipeline.overview import Overview
from pipeline.recipes.compute import prepare
from pipeline.recipes.predictions import fused
from pipeline.recipes.weights import EPS

PORTION = 16  # clips that are decoded at a time


class CannotSegment(ValueError):
    """A request that cannot be met: which part of it, what is there, what to do."""


@dataclass(frozen=True)
class Request:
    """A video and sentences; the frames to segment, counted from 1, or else every so many of them from the first on.

    `model` is a file of weights, ours or the authors', in place of what the store holds for the config."""

    video: Path
    queries: tuple[str, ...]
    to: Path
    frames: tuple[int, ...]
    every: int
    model: Path | None


def segment(config: Config, store: Path, request: Request, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write masks, masks.json and overview.png into a new folder; what masks.json says.

    Raises CannotSegment, and what decoding, reading weights and looking up words raise.
    """
    _check(request)
    device = prepare(config.compute.model_dump())
    files, index = _from_store(config, store) if request.model is None else (_given(config, request.model), None)
    networks = [Network(config, stream, path, device) for stream, path in files.items()]
    words = _words(config, request.queries, index)
    with Decoder() as decoder:
        video, numbers = _video(decoder, config, request)
        with folders.whole(request.to) as folder:
            overview = Overview(request.queries, numbers)
            masks = []
            for number, frame, found in _segmented(decoder, networks, config, video, numbers, words):
                masks += _written(folder, number, request.queries, found)
                overview.add(number, frame, [mask for mask, _, _ in found])
                progress(len(masks) // len(request.queries), len(numbers))
            overview.write(folder / "overview.png")
            document = {
                "video": str(request.video),
                "height": video.height,
                "width": video.width,
                "models": {stream: str(path) for stream, path in files.items()},
                "queries": list(request.queries),
                "words_without_vector": list(words.missing),
                "queries_cut": [request.queries[place] for place in words.truncated],
                "masks": masks,
            }
            (folder / "masks.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return document


def _check(request: Request) -> None:
    for query in request.queries:
        if not tokens(query):
            raise CannotSegment(f"--query {query!r} has no words; describe the actor, as in 'the red dog on the left'")
    if request.to.exists():
        raise CannotSegment(f"--to {request.to} exists; give a folder that does not")


class Network:
    """The network of a stream, with its trunk made cheap."""

    def __init__(self, config: Config, stream: str, path: Path, device: torch.device) -> None:
        self.stream, self.visual, self.flow = stream, config.visual, config.flow
        self.size = config.frames.size
        self.model: ACGA = checkpoints.load_any(path, EPS[config.visual.batch_norm])
        self.model.mode = config.model.mode
        expected = {"modality": stream, "backbone": config.visual.backbone, "text.dim": config.text.dim}
        sizes = self.model.sizes
        found = {"modality": self.model.video.modality, "backbone": sizes.video.name, "text.dim": sizes.word_dim}
        if found != expected:
            raise CannotSegment(f"{path} is a network of {found}, but the config says {expected}; give its own config")
        self.trunk = folded(self.model.video, getattr(torch, config.visual.compute)).to(device)
        self.model.to(device)

    def features(self, clips: Clips, numbers: Sequence[int]) -> Iterator[Float[torch.Tensor, "1 c t h w"]]:
        """The features of the clips around some frames, rounded as they are stored."""

        def load(wanted: Sequence[int]) -> np.ndarray:
            return np.stack([self._seen(clips, number) for number in wanted])

        batch, tap = self.visual.batch, self.trunk.tap
        for number, found in extract(self.trunk, load, batches_of(numbers, batch), tap, batch):
            rounded = restored(*halved(found, f"frame {number}: features after {tap}"))
            yield torch.from_numpy(rounded)[None]

    def _seen(self, clips: Clips, number: int) -> np.ndarray:
        """The clip around a frame as the trunk sees it: letterboxed RGB, or its optical flow."""
        frames = clips.frames(number)
        box = Letterbox(frames[0].shape[0], frames[0].shape[1], self.size)
        squares = np.stack([box.image(frame) for frame in frames])
        if self.stream == "rgb":
            return squares
        after = clips.following(number)
        following = None if after is None else box.image(after)
        return flow_fields(squares, following, self.flow.method, self.flow.bound).astype(np.float16)


@dataclass(frozen=True)
class OfClip:
    """A network and what it sees of one clip."""

    model: ACGA
    features: Float[torch.Tensor, "1 c t h w"]
    words: Float[torch.Tensor, "q l d"]

    def responses(self, indices: Sequence[int], precision: str) -> Float[torch.Tensor, "b s s"]:
        """The fused responses (logits) to some of the sentences."""
        clip = torch.zeros(len(indices), dtype=torch.int64)
        return predict(self.model, self.features, self.words[list(indices)], clip, precision).large


Masks = tuple[np.ndarray, np.ndarray, float]


def _segmented(
    decoder: Decoder,
    networks: Sequence[Network],
    config: Config,
    video: Source,
    numbers: Sequence[int],
    words: WordVectors,
) -> Iterator[tuple[int, np.ndarray, list[Masks]]]:
    """Each frame's number, its picture (RGB) and its masks for all sentences."""
    for start in range(0, len(numbers), PORTION):
        source = replace(video, labelled=tuple(numbers[start : start + PORTION]))
        clips = decode(decoder, source, config.frames.length, config.frames.limit_seconds, verify=False)
        for number, responses in _responses(networks, config, clips, source.labelled, words):
            frame = clips.frames(number)[config.frames.length // 2]
            yield number, frame, [_masks(response, video) for response in responses]


def _responses(
    networks: Sequence[Network], config: Config, clips: Clips, numbers: Sequence[int], words: WordVectors
) -> Iterator[tuple[int, list[Float[torch.Tensor, "s s"]]]]:
    """For each frame the responses to all sentences."""
    vectors, section = torch.from_numpy(words.values), config.prediction.model_dump()
    of_streams = zip(*(network.features(clips, numbers) for network in networks), strict=True)
    for number, features in zip(numbers, of_streams, strict=True):
        seen = [OfClip(network.model, own, vectors) for network, own in zip(networks, features, strict=True)]
        found: list[Float[torch.Tensor, "s s"]] = []
        for start in range(0, len(vectors), section["batch"]):
            found += fused(seen, range(start, min(start + section["batch"], len(vectors))), section)
        yield number, found


def _masks(response: Float[torch.Tensor, "s s"], video: Source) -> Masks:
    """The masks (H, W) of the protocols coco and acga, and the confidence."""
    box = Letterbox(video.height, video.width, response.shape[-1])
    mask, confidence = coco_prediction(response, box)
    return mask, acga_prediction(response, box), confidence


def _written(folder: Path, number: int, queries: Sequence[str], found: Sequence[Masks]) -> list[dict[str, Any]]:
    """Write a frame's masks as pictures; what masks.json says of them."""
    entries = []
    for place, (query, (mask, of_acga, confidence)) in enumerate(zip(queries, found, strict=True), start=1):
        name = Path("masks") / str(place) / f"{number:05d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(cv2.imencode(".png", mask * 255)[1].tobytes())
        encoded = {"coco": encode_rle(mask), "acga": encode_rle(of_acga)}
        entries.append({"frame": number, "query": query, "file": str(name), "confidence": confidence, **encoded})
    return entries


def _video(decoder: Decoder, config: Config, request: Request) -> tuple[Source, tuple[int, ...]]:
    """The video, opened, and the frames to segment."""
    try:
        first = decoder.clips(request.video, (0,), config.frames.limit_seconds)
    except FrameOutOfRange:
        raise CannotSegment(f"{request.video} has no frames; give another video") from None
    numbers = request.frames or tuple(range(1, first.count + 1, request.every))
    if max(numbers) > first.count or min(numbers) < 1:
        raise CannotSegment(f"--frame {max(numbers)}: {request.video} has the frames 1 to {first.count}")
    height, width = first.frames[0].shape[:2]
    return Source(request.video.name, request.video, height, width, first.count, 0, ()), tuple(sorted(set(numbers)))


def _words(config: Config, queries: Sequence[str], index: Path | None) -> WordVectors:
    section = {name: value for name, value in config.text.model_dump().items() if name != "mirrored"}
    return word_vectors(queries, **section, index=index)


def _given(config: Config, model: Path) -> Mapping[str, Path]:
    if len(config.streams) > 1:
        raise CannotSegment("--model is one network, but visual.modality = 'both' needs two; leave --model out")
    return {config.streams[0]: model}


def _from_store(config: Config, store: Path) -> tuple[Mapping[str, Path], Path | None]:
    """The weights that a run of the config left in the store, by stream; and the place of an index of its vectors."""
    if not (store / "TrainedModel").is_dir():  # before the raw files are listed, or even drawn
        raise _untrained(store)
    files, index = {}, None
    for task in run.prepare(config, store, "TrainedModel"):
        place = task.artifact()
        if place is None or not place.complete():
            raise _untrained(store)
        locks.keep(place.folder / "lock")
        files[task.label] = place.files() / "model.safetensors"
        vectors = task.raw["files"].get("text.vectors")
        if vectors is not None and Path(vectors["path"]).is_file():
            index = store / "cache" / f"{vectors['sha256']}.index"
    return files, index


def _untrained(store: Path) -> CannotSegment:
    remedy = "run `acga run CONFIG --until TrainedModel` first, or give --model FILE"
    return CannotSegment(f"the trained network of this config is not in {store}; {remedy}")
