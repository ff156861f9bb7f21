"""What the commands about the store itself print: `acga gc` and `acga adopt`."""

from __future__ import annotations

import argparse
import json

from pipeline import config, gc
from pipeline.adopt import adopt, revoke
from pipeline.commands import DONE, NO


def do_gc(options: argparse.Namespace) -> int:
    """List what the configs do not reach, or delete it; or drop files that can be built again; or pin."""
    settings = [config.load(path, options.set) for path in options.configs]
    if options.pin or options.unpin:
        count = gc.pin(settings, options.store, options.pin)
        print(json.dumps({"pinned" if options.pin else "unpinned": count}) if options.json else f"{count} artifacts")
        return DONE
    found = gc.collect(settings, options.store, options.delete, options.evict)
    if options.json:
        stages = {
            stage: {kind: {"folders": each.folders, "bytes": each.bytes} for kind, each in kinds.items()}
            for stage, kinds in found.items()
        }
        print(json.dumps({"deleted": options.delete, "stages": stages}))
        return DONE
    for stage, kinds in found.items():
        said = [f"{len(each.folders)} {kind} ({each.bytes / 2**20:.1f} MiB)" for kind, each in kinds.items()]
        print(f"{stage:15}  {', '.join(said)}")
    garbage = [kinds[kind] for kinds in found.values() for kind in gc.GARBAGE if kind in kinds]
    total = sum(each.bytes for each in garbage) / 2**20
    if options.delete:
        print(f"deleted: {total:.1f} MiB")
    elif garbage:
        print(f"garbage: {total:.1f} MiB in unreached and attempts; --delete deletes it")
    else:
        print("no garbage")
    return DONE


def do_adopt(options: argparse.Namespace) -> int:
    """Let old artifacts stand for changed code, after a sample came out equal; exit 1 if it did not."""
    settings = config.load(options.config, options.set)
    if options.revoke:
        labels = revoke(settings, options.store, options.stage)
        print(
            json.dumps({"revoked": labels}) if options.json else f"{len(labels)} artifacts of {options.stage} revoked"
        )
        return DONE
    found = adopt(settings, options.store, options.stage, options.sample, options.seed, options.workers)
    if options.json:
        equal = found.difference is None
        lists = {"compared": found.compared, "adopted": found.adopted}
        print(json.dumps({"stage": options.stage, "equal": equal, "difference": found.difference, **lists}))
    elif found.difference is None:
        print(f"{options.stage}: {len(found.compared)} built anew and equal, {len(found.adopted)} adopted")
    else:
        print(f"nothing adopted: the changed code gives other results. {found.difference}")
    return DONE if found.difference is None else NO
