"""Write slurm/*.sh anew from codeio_hpc/launch/scripts.py:  python tools/render_scripts.py"""

from __future__ import annotations

from pathlib import Path

from codeio_hpc.launch.scripts import SCRIPTS, render

if __name__ == "__main__":
    for script in SCRIPTS:
        path = Path(__file__).parents[1] / "slurm" / f"{script.name}.sh"
        path.write_text(render(script), encoding="utf-8")
