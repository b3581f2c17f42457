"""GPUs: is the driver new enough for the CUDA that will be used?"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

from codeio_hpc.launch.doctor.finding import Finding

Version = tuple[int, int]


def gpu_findings(image: str | None, wanted: bool) -> list[Finding]:
    """Driver and CUDA of this host. ``wanted``: the class has GPUs, so there must be some."""
    text = _output(["nvidia-smi"])
    driver = driver_finding(text, wanted)
    if text is None or driver.verdict == "fail":
        return [driver, Finding("CUDA", "no GPU here", "skipped")]
    runtime = image_cuda(_output(["apptainer", "inspect", "--labels", image]) or "") if image else torch_cuda()
    return [driver, cuda_finding(driver_cuda(text), runtime, image or "torch of this environment")]


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def driver_finding(text: str | None, wanted: bool) -> Finding:
    """What `nvidia-smi` shows."""
    if text is None:
        if wanted:
            fix = "the class asks for GPUs, but nvidia-smi does not answer on this node: tell the administrators"
            return Finding("GPU driver", "nvidia-smi does not answer", "fail", fix)
        return Finding("GPU driver", "no GPU here", "skipped")
    version = re.search(r"Driver Version: ([\d.]+)", text)
    gpus = len(re.findall(r"^\|\s+\d+\s.* [0-9A-F]{8}:[0-9A-F]{2}:", text, flags=re.MULTILINE))  # with a bus address
    cuda = driver_cuda(text)
    shown = f"CUDA up to {cuda[0]}.{cuda[1]}" if cuda else "CUDA unknown"
    return Finding("GPU driver", f"{version[1] if version else 'unknown'}, {shown}, {gpus} GPUs")


def driver_cuda(text: str) -> Version | None:
    """The newest CUDA that the driver runs, as the head of `nvidia-smi` says."""
    return _version(re.search(r"CUDA Version: (\d+)\.(\d+)", text))


def image_cuda(labels: str) -> Version | None:
    """CUDA of an image, by any of its labels that names it."""
    return _version(re.search(r"cuda\S*\s*[:=]\s*\"?(\d+)\.(\d+)", labels, flags=re.IGNORECASE))


def torch_cuda() -> Version | None:
    """CUDA that the installed torch was built for; read from its files, since importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("version.py")
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return _version(re.search(r"^cuda\b.*['\"](\d+)\.(\d+)", text, flags=re.MULTILINE))


def _version(found: re.Match[str] | None) -> Version | None:
    return (int(found[1]), int(found[2])) if found else None


def cuda_finding(driver: Version | None, runtime: Version | None, what: str) -> Finding:
    """A driver runs every older CUDA, and newer minor versions of its own major one (compiled kernels may fail then).
    NVIDIA: "CUDA Compatibility", minor version compatibility."""
    if runtime is None:
        return Finding("CUDA", f"{what} does not say for which CUDA it is built", "skipped")
    value = f"{what}: {runtime[0]}.{runtime[1]}"
    if driver is None or runtime <= driver:
        return Finding("CUDA", value)
    newest = f"the driver runs up to {driver[0]}.{driver[1]}"
    if runtime[0] == driver[0]:
        return Finding(
            "CUDA", f"{value}; {newest}", "warn", "same major version: works, but kernels compiled here may not"
        )
    fix = f"{newest}: use an image or torch built for CUDA {driver[0]}, or have the driver updated"
    return Finding("CUDA", f"{value}; {newest}", "fail", fix)
