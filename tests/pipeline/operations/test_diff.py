"""`acga diff` names the step in which two sets of features part: each deliberate change, made by code of the test.

A is an export of ours. B is its copy without `acga.json` whose features the test computed from the raw videos, step by
step, with one step changed. Frames are not square, so that geometry shows, and they move; the batch norms' variances
are 0.01, where eps matters.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest
import torch
from commands import Acga
from torch import nn

from extractors.video.decoder import Decoder
from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, COUNT, SIZE, LENGTH = 48, 80, 36, 64, 16
LABELLED = 17  # counted from 1; its clip is frames 9 to 24
VIDEOS = {"sailing": "train", "hopping": "train", "gliding": "test"}
BOUND = 2.0  # pixels; the videos move by more
CLIPS = 2


@dataclass(frozen=True)
class Experiment:
    """A data set, weights, and the exports of ours, of RGB and of flow, with the overrides they were made by."""

    root: Path
    weights: dict[str, Path]
    exports: dict[str, Path]
    overrides: tuple[str, ...]
    store: Path


def experiment_config(root: Path, rgb: Path, flow: Path) -> tuple[str, ...]:
    settings = (
        *(f"dataset.root={root}", "dataset.groups=", "dataset.shards=1", f"flow.bound={BOUND}"),
        *(f"visual.weights={rgb}", f"visual.flow_weights={flow}"),
    )
    return tuple(part for override in settings for part in ("--set", override))


@pytest.fixture(scope="module")
def experiment(acga: Acga, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    place = tmp_path_factory.mktemp("diff")
    write_data_set(place / "set")
    weights = {modality: write_weights(place / f"{modality}.pth", modality) for modality in ("rgb", "flow")}
    overrides = experiment_config(place / "set", weights["rgb"], weights["flow"])
    exports = {}
    for modality in ("rgb", "flow"):
        folder = exports[modality] = place / f"export_{modality}"
        own = ("--set", f"visual.modality={modality}")
        done = acga("export", acga.config, "--store", place / "store", "--to", folder, "--json", *overrides, *own)
        assert done.document["samples"] == {"train": 2, "test": 1}, done.errors
    return Experiment(place / "set", weights, exports, overrides, place / "store")


# ---- the data set


def write_data_set(root: Path) -> None:
    """A2D's layout: a texture that sails by, with a square that moves against it."""
    (root / "Release" / "clips320H").mkdir(parents=True)
    rows = []
    for seed, (video, split) in enumerate(VIDEOS.items()):
        images, masks = moving(np.random.default_rng(seed))
        write_video(root / "Release" / "clips320H" / f"{video}.mp4", images)
        write_annotation(root / "a2d_annotation_with_instances" / video / f"{LABELLED:05d}.h5", masks[LABELLED - 1])
        usage = "01"[split == "test"]
        rows.append(f"{video},13,00:00:00,00:00:02,{HEIGHT},{WIDTH},{COUNT},1,{usage}\n")
    (root / "Release" / "videoset.csv").write_text("".join(rows))
    sentences = "".join(f"{video},0,the square that is {video}\n" for video in VIDEOS)
    (root / "a2d_annotation.txt").write_text(f"video_id,instance_id,query\n{sentences}")


def moving(generator: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """RGB frames, and the masks of the square."""
    texture = cv2.resize(generator.uniform(0, 255, (24, 60, 3)).astype(np.float32), (500, 200)).astype(np.uint8)
    square = cv2.resize(generator.uniform(0, 255, (5, 5, 3)).astype(np.float32), (18, 18)).astype(np.uint8)
    images, masks = [], []
    for time in range(COUNT):
        image = texture[time : time + HEIGHT, 5 * time : 5 * time + WIDTH].copy()
        left = 58 - time
        image[15:33, left : left + 18] = square
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[15:33, left : left + 18] = 1
        images.append(image)
        masks.append(mask)
    return images, masks


def write_video(path: Path, images: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.options, stream.codec_context.thread_count = {"crf": "15"}, 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())


def write_annotation(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:  # axes reversed, as MATLAB's files have them
        file["reMask"] = mask.T
        file["instance"] = np.array([0])
        file["id"] = np.array([[13.0]])


def write_weights(path: Path, modality: str) -> Path:
    """A weights file of the port, an eighth as wide, whose batch norms have variances of 0.01."""
    i3d = I3D(modality, 1e-5, 0.125)
    seed_i3d(i3d, 3)
    for name, norm in list(i3d.named_modules()):
        if isinstance(norm, nn.BatchNorm3d):
            scale = torch.sqrt(0.01 / norm.running_var)
            convolution = i3d.get_submodule(name.replace("batch3d", "conv3d"))
            convolution.weight.data *= scale[:, None, None, None, None]
            norm.running_mean *= scale
            norm.running_var.fill_(0.01)
    torch.save(i3d.state_dict(), path)
    return path


# ---- features by the test's own code


@dataclass(frozen=True)
class Steps:
    """From a video to its features; of flow the pixels of `scaling` are displacements."""

    modality: str
    shift: int
    square: Callable[[np.ndarray], np.ndarray]
    colours: str
    scaling: Callable[[np.ndarray], np.ndarray]
    eps: float
    tap: str
    rounding: type[np.floating]


def letterboxed(image: np.ndarray) -> np.ndarray:
    rows = round(HEIGHT * SIZE / WIDTH)
    square = np.zeros((SIZE, SIZE, 3), np.uint8)
    top = (SIZE - rows) // 2
    square[top : top + rows] = cv2.resize(image, (SIZE, rows), interpolation=cv2.INTER_LINEAR)
    return square


def cropped(image: np.ndarray) -> np.ndarray:
    columns = round(WIDTH * SIZE / HEIGHT)
    left = (columns - SIZE) // 2
    return cv2.resize(image, (columns, SIZE), interpolation=cv2.INTER_LINEAR)[:, left : left + SIZE]


def stretched(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def to_one_on_both_sides(values: np.ndarray) -> np.ndarray:
    return values / np.float32(127.5) - 1


def to_one(values: np.ndarray) -> np.ndarray:
    return values / np.float32(255)


def clipped(values: np.ndarray, bound: float) -> np.ndarray:
    return np.clip(values, -bound, bound) / bound


RGB = Steps("rgb", 0, letterboxed, "rgb", to_one_on_both_sides, 1e-5, "mixed_4e", np.float16)
FLOW = replace(RGB, modality="flow", scaling=partial(clipped, bound=BOUND))


def flow_of(squares: list[np.ndarray]) -> np.ndarray:
    """Displacements from each frame to the next."""
    grey = [cv2.cvtColor(square, cv2.COLOR_RGB2GRAY) for square in squares]
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.stack([method.calc(a, b, None) for a, b in pairwise(grey)])


def features(experiment: Experiment, video: str, steps: Steps) -> np.ndarray:
    """The features of the clip of a video's labelled frame."""
    first = LABELLED - 1 - LENGTH // 2 + steps.shift
    path = experiment.root / "Release" / "clips320H" / f"{video}.mp4"
    with Decoder() as decoder:
        frames = decoder.clips(path, range(first, first + LENGTH + 1), 60.0).frames
    if steps.colours == "bgr":
        frames = frames[..., ::-1]
    squares = [steps.square(np.ascontiguousarray(frame)) for frame in frames]
    images = np.stack(squares[:LENGTH]) if steps.modality == "rgb" else flow_of(squares)
    if steps.modality == "flow":
        assert np.abs(images).max() > 2 * BOUND, "or nothing is clipped"
    values = steps.scaling(images.astype(np.float32))
    if steps.modality == "flow":  # fields are stored so, before anything sees them
        values = values.astype(np.float16).astype(np.float32)
    clip = torch.from_numpy(values).permute(3, 0, 1, 2)[None]
    i3d = I3D(steps.modality, steps.eps, 0.125)
    i3d.load_state_dict(torch.load(experiment.weights[steps.modality], weights_only=True))
    with torch.inference_mode():
        found = i3d.eval().trunk(clip.contiguous(), tap=steps.tap)[0].numpy()
    return found.astype(steps.rounding).astype(np.float32)


def side_b(experiment: Experiment, folder: Path, steps: Steps) -> Path:
    """The export without its origin, its features made anew."""
    shutil.copytree(experiment.exports[steps.modality], folder)
    (folder / "acga.json").unlink()
    with h5py.File(folder / f"video_{steps.modality}_iccv.h5", "r+") as file:
        for split in ("train", "test"):
            names = [line.partition(".")[0] for line in (folder / f"{split}.txt").read_text().splitlines()]
            clips = json.loads((experiment.exports[steps.modality] / "acga.json").read_bytes())["rows"][split]
            assert len(names) == len(clips)
            rows = np.stack([features(experiment, clip.partition("/")[0], steps)[None] for clip in clips])
            del file[split]
            file[split] = rows
    return folder


# ---- what diff says


CHANGES = {
    "frame index": (replace(RGB, shift=1), "frame index", 0, 1),
    "crop": (replace(RGB, square=cropped), "geometry", "letterbox", "crop"),
    "stretch": (replace(RGB, square=stretched), "geometry", "letterbox", "stretch"),
    "bgr": (replace(RGB, colours="bgr"), "colour order", "rgb", "bgr"),
    "scaling": (replace(RGB, scaling=to_one), "scaling", "[-1, 1]", "[0, 1]"),
    "eps": (replace(RGB, eps=1e-3), "batch norm eps", 1e-5, 1e-3),
    "tap": (replace(RGB, tap="mixed_4d"), "tap", "mixed_4e", "mixed_4d"),
    "rounding": (replace(RGB, rounding=np.float32), "rounding", "float16", "float32"),
    "clipping": (replace(FLOW, scaling=partial(clipped, bound=20.0)), "flow clipping", BOUND, 20.0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_deliberate_change_is_named(acga: Acga, experiment: Experiment, tmp_path: Path, change: str) -> None:
    steps, stage, of_a, of_b = CHANGES[change]
    b = side_b(experiment, tmp_path / "B", steps)
    done = acga("diff", experiment.exports[steps.modality], b, "--clips", CLIPS, "--json")
    assert done.code == 1, done.errors
    document = done.document
    assert (document["verdict"], document["stage"]) == ("explained", stage), document["sentence"]
    (told,) = document["cause"]["changes"]
    assert (told["stage"], told["a"], told["b"]) == (stage, of_a, of_b)
    assert document["cause"]["error"] <= 2e-3
    assert document["sentence"].startswith(f"{stage}: ")
    assert len(document["samples"]) == len(VIDEOS)
    assert all(error is None if change == "tap" else error > 0 for error in document["samples"].values())
    assert len(document["clips"]) == CLIPS
    assert "Beware" not in document["sentence"], "A comes out again as it was made"


# Fails for flow: float32 differs by 6e-6, rounding makes 7e-5 of it, and
# extractors.comparison.explanation.SAME_DISTANCE is 5e-5.
@pytest.mark.parametrize("steps", [RGB, FLOW], ids=lambda steps: steps.modality)
def test_the_same_steps_by_other_code_are_alike(
    acga: Acga, experiment: Experiment, tmp_path: Path, steps: Steps
) -> None:
    b = side_b(experiment, tmp_path / "B", steps)
    document = acga("diff", experiment.exports[steps.modality], b, "--clips", CLIPS, "--json").document
    assert (document["verdict"], document["stage"]) == ("identical", None), document["sentence"]
    assert all(error <= 2e-3 for error in document["samples"].values())


def test_the_side_that_says_how_it_was_made_may_be_either(acga: Acga, experiment: Experiment, tmp_path: Path) -> None:
    b = side_b(experiment, tmp_path / "B", replace(RGB, colours="bgr"))
    done = acga("diff", b, experiment.exports["rgb"], "--clips", 1)
    assert done.code == 1
    assert "explained: colour order. colour order: rgb in B, bgr in A" in done.output


def test_a_copy_is_identical_to_the_last_bit(acga: Acga, experiment: Experiment, tmp_path: Path) -> None:
    shutil.copytree(experiment.exports["rgb"], tmp_path / "B")
    done = acga("diff", experiment.exports["rgb"], tmp_path / "B", "--json")
    assert (done.code, done.document["verdict"]) == (0, "identical")
    assert set(done.document["samples"].values()) == {0}


def test_raw_videos_give_what_was_exported_of_them(acga: Acga, experiment: Experiment, tmp_path: Path) -> None:
    settings = (*experiment.overrides, "--store", experiment.store, "--clips", CLIPS, "--json")
    done = acga("diff", acga.config, experiment.exports["rgb"], *settings)
    assert (done.code, done.document["verdict"]) == (0, "identical"), done.errors
    assert done.document["unchanged"]["error"] == 0, "to the last bit"
    other = acga("diff", acga.config, experiment.exports["rgb"], *settings, "--set", "visual.batch_norm=tensorflow")
    assert (other.code, other.document["stage"]) == (1, "batch norm eps"), other.errors


def of_noise(folder: Path, b: Path, seed: int) -> Path:
    """A copy of an export, without its origin, of noise."""
    shutil.copytree(folder, b)
    (b / "acga.json").unlink()
    with h5py.File(b / "video_rgb_iccv.h5", "r+") as file:
        for split in ("train", "test"):
            file[split][...] = np.random.default_rng(seed).uniform(0, 3, file[split].shape)
    return b


def test_nothing_explains_noise(acga: Acga, experiment: Experiment, tmp_path: Path) -> None:
    b = of_noise(experiment.exports["rgb"], tmp_path / "B", 0)
    done = acga("diff", experiment.exports["rgb"], b, "--clips", 1, "--json")
    assert (done.code, done.document["verdict"], done.document["stage"]) == (1, "unexplained", None), done.errors
    assert len(done.document["candidates"]) > 20, "all of those were tried"


def test_what_neither_side_knows_the_origin_of_is_not_explained(
    acga: Acga, experiment: Experiment, tmp_path: Path
) -> None:
    a, b = (of_noise(experiment.exports["rgb"], tmp_path / name, seed) for seed, name in enumerate("AB"))
    done = acga("diff", a, b, "--json")
    assert (done.code, done.document["verdict"], done.document["stage"]) == (1, "unexplained", None)
    assert "Neither A nor B says" in done.document["sentence"]


def test_what_cannot_be_compared_is_refused_in_one_line(acga: Acga, experiment: Experiment, tmp_path: Path) -> None:
    rgb, flow = experiment.exports["rgb"], experiment.exports["flow"]
    masks = min((experiment.store / "Masks").glob("*/manifest.json")).parent
    for a, b, words in (
        (rgb, tmp_path, "no features there"),
        (rgb, flow, "features of one kind"),
        (acga.config, acga.config, "two configs"),
        (masks, rgb, "an artifact of Masks"),
    ):
        done = acga("diff", a, b)
        assert (done.code, done.output) == (2, "")
        (complaint,) = done.errors.splitlines()
        assert words in complaint
