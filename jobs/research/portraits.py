"""Draw portraits of generated people: `python -m jobs.research.portraits output=... [key=value ...]`."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from pipeline.common.extras import check_extra
from pipeline.common.options import option
from pipeline.common.progress import Progress
from pipeline.research.corpus.portrait import PortraitSettings, draw_portrait
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.storage.objects import check_writable, write_bytes
from pipeline.storage.uris import absolute, join

USAGE = f"""
Draw portraits of generated people (PNG): computer-graphics heads that look into the camera with a neutral expression
and closed lips. Four of them are the portraits of the demo. The first portrait on a machine takes about a minute, each
further one about a second.

  pip install 'floatcast[corpus]'            and, on Debian: apt-get install libegl1 libgl1 libgl1-mesa-dri
  python -m jobs.research.portraits output=portraits
  python -m jobs.research.portraits output=portraits "portraits.seeds=[2011, 2016, 2017, 2022]"

Options: --help
{CODES}
"""


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
    return ended(lambda: _draw(absolute(job.output), job.portraits), "interrupted")


def _draw(output: str, settings: PortraitSettings) -> int:
    check_extra("corpus", "generated portraits")
    check_writable(output)
    with Progress(len(settings.seeds), measure="portraits", things="portraits") as progress:
        for seed in settings.seeds:
            buffer = io.BytesIO()
            picture = draw_portrait(seed, settings.size)
            Image.fromarray(picture).save(buffer, "PNG", optimize=True)
            write_bytes(buffer.getvalue(), join(output, f"portrait_{seed}.png"))
            progress.add({"status": "drawn"})
    print(f"wrote {len(settings.seeds)} portraits of {settings.size} px to {output}")
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
