"""Draw portraits of generated people: `python -m jobs.research.portraits output=... [key=value ...]`."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from jobs.cli.config import fail, parse
from jobs.cli.progress import Progress
from pipeline.common.options import option
from pipeline.research.corpus.portrait import PortraitSettings, draw_portrait
from pipeline.research.corpus.scene import GraphicsError
from pipeline.storage.objects import absolute, check_writable, join, write_bytes

USAGE = """
Draw portraits of generated people (PNG): computer-graphics heads that look into the camera, calm, lips closed. Those of
the demo are four of them. The first one on a machine takes about a minute, the next ones a second each.

  pip install 'floatcast[corpus]'            and, on Debian: apt-get install libegl1 libgl1 libgl1-mesa-dri
  python -m jobs.research.portraits output=portraits
  python -m jobs.research.portraits output=portraits "portraits.seeds=[2011, 2016, 2017, 2022]"

Options: --help. Exit codes: 0 drawn; 2 configuration refused, or something is not installed; 3 the storage failed; 130
interrupted.
"""

DRAWN, REFUSED, INFRASTRUCTURE, INTERRUPTED = 0, 2, 3, 130


@dataclass
class PortraitsJob:
    """Configuration of `jobs.research.portraits`."""

    output: str = option("", "Folder for portrait_SEED.png, local or s3://.")
    portraits: PortraitSettings = field(default_factory=PortraitSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(PortraitsJob, USAGE, argv)
    if not job.output:
        return fail("output: give a folder", REFUSED)
    output, seeds = absolute(job.output), job.portraits.seeds
    try:
        check_writable(output)
        with Progress(len(seeds), measure="portraits", things="portraits") as progress:
            for seed in seeds:
                buffer = io.BytesIO()
                Image.fromarray(draw_portrait(seed, job.portraits.size)).save(buffer, "PNG", optimize=True)
                write_bytes(buffer.getvalue(), join(output, f"portrait_{seed}.png"))
                progress.add({"status": "drawn"})
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except (ImportError, GraphicsError) as error:  # each says what to install
        return fail(str(error), REFUSED)
    except Exception as error:  # every storage client has exceptions of its own
        return fail(f"{output}: {type(error).__name__}: {error}", INFRASTRUCTURE)
    print(f"wrote {len(seeds)} portraits of {job.portraits.size} px to {output}")
    return DRAWN


if __name__ == "__main__":
    raise SystemExit(main())
