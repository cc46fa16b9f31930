#!/usr/bin/env bash
# lightning 2.6.6: a checkpoint grows under its final name where the temporary folder is on another disk.
#
# Expected: save_checkpoint calls its way of saving atomic, so whoever looks at the checkpoint's path sees
# either no file (or the old one) or the whole new one.
#
# What happens: the file is written in the folder for temporary files and then moved. Between two file systems
# a move is a copy, byte after byte, under the final name. A process that is killed then, or a disk that runs
# full, leaves a part of a checkpoint there, in place of the last good one.
#
# Seen, with the temporary folder on the disk and the checkpoint in /dev/shm:
#   looked at the path while it was written: sizes between 0 and the whole file were seen
#   with the temporary folder in /dev/shm, too: only the whole file was seen
set -euo pipefail
work=$(mktemp -d)
near=$(mktemp -d /dev/shm/near.XXXX)
trap 'rm -rf "$work" "$near"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile lightning==2.6.6 torch==2.15.0
if [ "$(stat -c %d "$work")" = "$(stat -c %d "$near")" ]; then
  echo "/dev/shm and the temporary folder are one file system: nothing can be shown here"
  exit 1
fi
cat > "$work/look.py" <<'PY'
import sys
import threading
from pathlib import Path

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

path = Path(sys.argv[1]) / "last.ckpt"
seen, done = set(), threading.Event()


def look():
    while not done.is_set():
        try:
            seen.add(path.stat().st_size)
        except FileNotFoundError:
            pass


looking = threading.Thread(target=look)
looking.start()
TorchCheckpointIO().save_checkpoint({"weights": torch.zeros(2**26)}, path)
done.set()
looking.join()
whole = path.stat().st_size
partial = sorted(size for size in seen if size < whole)
print("sizes seen below the whole file:", len(partial))
print("PARTIAL" if partial else "WHOLE")
PY
apart=$(TMPDIR="$work" "$work/venv/bin/python" -W ignore "$work/look.py" "$near")
echo "temporary folder on another file system: $apart"
rm "$near/last.ckpt"
together=$(TMPDIR="$near" "$work/venv/bin/python" -W ignore "$work/look.py" "$near")
echo "temporary folder on the same file system: $together"
grep -q PARTIAL <<< "$apart"
grep -q WHOLE <<< "$together"
