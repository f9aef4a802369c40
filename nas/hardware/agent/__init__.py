"""The measuring process: times files on a machine and prints what it saw.

A package of its own that imports nothing of the project's: with stdlib, numpy and one runtime it
runs on any host, as the single file that `nas.hardware.bundle` packs it into:

    python -I agent.pyz < job.json > lines.jsonl

The job names the files, the anchors (small fixed networks timed beside them, so that two sessions
can be compared), the runtime, the batch, the threads, a seed of the order, the rules
(`nas.hardware.protocol.Protocol`), and what the reference kernel usually takes here.
Each line written is one JSON object with an `event`:

- `start`, `end`: versions, processor, governor, clock and load, before and after, and what the
  reference took when quiet, in this session and of all that is known;
- `loading`, `loaded`: which file is being loaded and warmed up (so a crash has a name);
- `failed`: a file that could not be loaded or run, with the reason; the others go on;
- `hung`: a file whose single call outlasted the cap; the process ends;
- `result`: the raw samples of one network, in microseconds, with the pass each belongs to, the
  slower of the two reference runs around it, and how long another process had the core meanwhile.

The statistics (`estimates`) live here because the process stops by them; the host side imports the
same functions, so there is one code path. Shuffled, interleaved passes, a one-thread reference
kernel as a gate and a low quantile repeat best on shared hosts; a median of one block does not.
"""

VERSION = 4
