"""Published files of weights, recognised by their content."""

import hashlib
from pathlib import Path

# Git blob ids (SHA-1 of "blob <bytes>\0" and the content) of files in public repositories.
BLOBS = {
    "2a7c22e23e6c74f50a0166ce61110bccd2ab48bb": "the published hassony2 RGB weights (kinetics_i3d_pytorch)",
    "5d552d2206f41089c428b0d9d8de3b1fccc85b5a": "the published hassony2 flow weights (kinetics_i3d_pytorch)",
    "41a80640406ba3bdfa61220b769935a3595d6374": "the RGB weights that the authors of ACGA publish (haowang1992/ACGA)",
    "25c4d496aedc25726c106f12653f02a8ff37f2ac": "the flow weights that the authors of ACGA publish (haowang1992/ACGA)",
    "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a": "the published piergiaj RGB weights, rgb_imagenet.pt",
    "ef0e7c282a102f76b14b52643574b80acba4e475": "the published piergiaj flow weights, flow_imagenet.pt",
    "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467": "the published piergiaj RGB weights for Charades, rgb_charades.pt",
    "e609545f2ae2d992ca715b819ed6b53b8f5c8b95": "the published piergiaj flow weights for Charades, flow_charades.pt",
}

# First digits of the SHA-256 of torchvision's files, which their names contain.
TORCHVISION = {
    "f37072fd": "resnet18, IMAGENET1K_V1",
    "b627a593": "resnet34, IMAGENET1K_V1",
    "0676ba61": "resnet50, IMAGENET1K_V1",
    "11ad3fa6": "resnet50, IMAGENET1K_V2",
    "63fe2227": "resnet101, IMAGENET1K_V1",
    "cd907fc2": "resnet101, IMAGENET1K_V2",
    "394f9c45": "resnet152, IMAGENET1K_V1",
    "f82ba261": "resnet152, IMAGENET1K_V2",
}

UNKNOWN = "not a file we know"
_BLOCK_BYTES = 1 << 20


def identity(path: Path) -> str:
    """Return which published file this is, or "not a file we know". Raises OSError if it cannot be read."""
    blob, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    blob.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            blob.update(block)
            sha256.update(block)
    return named(blob.hexdigest(), sha256.hexdigest())


def named(blob: str, sha256: str) -> str:
    """Return which published file has this git blob id or SHA-256, or "not a file we know"."""
    if found := BLOBS.get(blob):
        return found
    of_torchvision = TORCHVISION.get(sha256[:8])
    return f"the weights that torchvision publishes ({of_torchvision})" if of_torchvision else UNKNOWN
