"""Segmentation of any video by any sentences with a trained network, for `acga segment`.

Each clip is processed by the functions of the stages Frames, Flow, VisualFeatures and Predictions, so that a labelled
frame of the data set gets the same mask as in a run. Only a few clips are in memory at a time, however long the video.
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
from extractors.shards.float16 import to_float16, to_float32
from extractors.text.sentences import WordVectors, tokens, word_vectors
from extractors.video.clips import Clips, Source, decode
from extractors.video.decoder import Decoder, FrameOutOfRange
from extractors.video.flow import flow_fields
from extractors.visual import batches_of, extract
from models.acga import ACGA
from models.backbones.folded_batch_norm import fold_batch_norm
from models.evaluation.inference import predict
from models.evaluation.metrics import acga_prediction, coco_prediction
from models.files import checkpoints
from pipeline.config import Config
from pipeline.pages.overview import Overview
from pipeline.runs import run
from pipeline.stages.results.predictions import fused
from pipeline.stages.support.compute import prepare
from pipeline.stages.support.weights import EPS
from pipeline.store import atomic_folder, locks

PORTION = 16  # number of clips decoded at a time


class CannotSegment(ValueError):
    """Error of a request that cannot be met; the message names the part, the reason and the remedy."""


@dataclass(frozen=True)
class Request:
    """A video, sentences and the frames to segment, counted from 1; without frames, every `every`-th from the first on.

    `model` is a file of weights of this project or of the authors, which replaces the stored network of the config."""

    video: Path
    queries: tuple[str, ...]
    to: Path
    frames: tuple[int, ...]
    every: int
    model: Path | None


def segment(config: Config, store: Path, request: Request, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write masks, masks.json and overview.png into a new folder, and return the content of masks.json.

    Raises `CannotSegment`, and the errors of decoding, of reading weights and of looking up word vectors.
    """
    _check(request)
    device = prepare(config.compute)
    files, index = _from_store(config, store) if request.model is None else (_given(config, request.model), None)
    networks = [Network(config, stream, path, device) for stream, path in files.items()]
    words = _words(config, request.queries, index)
    with Decoder() as decoder:
        video, numbers = _video(decoder, config, request)
        with atomic_folder.atomic_folder(request.to) as folder:
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
    """The network of a stream, with the batch norms of its trunk folded for speed.

    Raises `CannotSegment` if the network in the file does not match the config.
    """

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
        self.trunk = fold_batch_norm(self.model.video, getattr(torch, config.visual.compute)).to(device)
        self.model.to(device)

    def features(self, clips: Clips, numbers: Sequence[int]) -> Iterator[Float[torch.Tensor, "1 c t h w"]]:
        """Yield the features of the clip around each frame, rounded as stored features are."""

        def load(wanted: Sequence[int]) -> np.ndarray:
            return np.stack([self._seen(clips, number) for number in wanted])

        batch, tap = self.visual.batch, self.trunk.tap
        for number, found in extract(self.trunk, load, batches_of(numbers, batch), tap, batch):
            rounded = to_float32(*to_float16(found, f"frame {number}: features after {tap}"))
            yield torch.from_numpy(rounded)[None]

    def _seen(self, clips: Clips, number: int) -> np.ndarray:
        """Return the trunk's input for the clip around a frame: letterboxed RGB, or its optical flow."""
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
    """A network and its inputs for one clip: the features and the word vectors."""

    model: ACGA
    features: Float[torch.Tensor, "1 c t h w"]
    words: Float[torch.Tensor, "q l d"]

    def responses(self, indices: Sequence[int], precision: str) -> Float[torch.Tensor, "b s s"]:
        """Return the fused responses (logits) to some of the sentences."""
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
    """Yield the number, the RGB image and the masks for all sentences of each frame."""
    for start in range(0, len(numbers), PORTION):
        source = replace(video, labelled=tuple(numbers[start : start + PORTION]))
        clips = decode(decoder, source, config.frames.length, config.frames.limit_seconds, verify=False)
        for number, responses in _responses(networks, config, clips, source.labelled, words):
            frame = clips.frames(number)[config.frames.length // 2]
            yield number, frame, [_masks(response, video) for response in responses]


def _responses(
    networks: Sequence[Network], config: Config, clips: Clips, numbers: Sequence[int], words: WordVectors
) -> Iterator[tuple[int, list[Float[torch.Tensor, "s s"]]]]:
    """Yield the number of each frame and its responses to all sentences."""
    vectors, section = torch.from_numpy(words.values), config.prediction
    of_streams = zip(*(network.features(clips, numbers) for network in networks), strict=True)
    for number, features in zip(numbers, of_streams, strict=True):
        seen = [OfClip(network.model, own, vectors) for network, own in zip(networks, features, strict=True)]
        found: list[Float[torch.Tensor, "s s"]] = []
        for start in range(0, len(vectors), section.batch):
            found += fused(seen, range(start, min(start + section.batch, len(vectors))), section)
        yield number, found


def _masks(response: Float[torch.Tensor, "s s"], video: Source) -> Masks:
    """Return the masks (H, W) of the protocols coco and acga, and the confidence."""
    box = Letterbox(video.height, video.width, response.shape[-1])
    mask, confidence = coco_prediction(response, box)
    return mask, acga_prediction(response, box), confidence


def _written(folder: Path, number: int, queries: Sequence[str], found: Sequence[Masks]) -> list[dict[str, Any]]:
    """Write the masks of a frame as PNG files, and return their entries for masks.json."""
    entries = []
    for place, (query, (mask, of_acga, confidence)) in enumerate(zip(queries, found, strict=True), start=1):
        name = Path("masks") / str(place) / f"{number:05d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(cv2.imencode(".png", mask * 255)[1].tobytes())
        encoded = {"coco": encode_rle(mask), "acga": encode_rle(of_acga)}
        entries.append({"frame": number, "query": query, "file": str(name), "confidence": confidence, **encoded})
    return entries


def _video(decoder: Decoder, config: Config, request: Request) -> tuple[Source, tuple[int, ...]]:
    """Open the video, and return it with the frames to segment.

    Raises `CannotSegment` if the video has no frames or a requested frame is out of range.
    """
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
    text = config.text
    return word_vectors(queries, text.vectors, text.dim, text.words, text.seed, text.oov, text.layer, index)


def _given(config: Config, model: Path) -> Mapping[str, Path]:
    if len(config.streams) > 1:
        raise CannotSegment("--model is one network, but visual.modality = 'both' needs two; leave --model out")
    return {config.streams[0]: model}


def _from_store(config: Config, store: Path) -> tuple[Mapping[str, Path], Path | None]:
    """Return the stored weights of the config's networks by stream, and the path of the index of its word vectors.

    Raises `CannotSegment` if the config has no trained network in the store.
    """
    if not (store / "TrainedModel").is_dir():  # checked before the raw files are listed or even generated
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
