"""What a report states of a victim's training."""

from seg_mia.callbacks.seen_samples import UNSEEN
from seg_mia.checkpoint import Card
from seg_mia.config.files import Config
from seg_mia.runs import defence_names


def about(card: Card) -> Config:
    """Return a checkpoint's metadata without the hashes of its samples."""
    split = card.split or {}
    counts = {part: len(split[part]) for part in ("members", "nonmembers", "reference") if part in split}
    missing = {UNSEEN: len(split[UNSEEN])} if split.get(UNSEEN) else {}
    arguments = card.data["init_args"] if card.data else {}
    return {
        "network": card.network or card.model["init_args"].get("network"),
        "task": card.model,
        "data": card.data,
        "split": counts | missing | {"role": split.get("role"), "split_seed": arguments.get("split_seed")},
        "classes": card.classes,
        "channels": card.channels,
        "fingerprint": card.fingerprint,
        "training": card.training,
        "defences": defence_names(card),
    }
