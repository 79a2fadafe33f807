from setuptools import find_packages, setup

# Lower bounds only. Newest-of-everything does not import (see constraints.txt for a set that does).
REQUIRES = [
    "semilearn==0.3.2",
    "torch>=2.4",
    "torchvision>=0.19",  # torchvision.transforms.v2
    "torchaudio",  # only because semilearn imports it
    "transformers",
    "timm",
    "huggingface_hub",
    "safetensors",
    "filelock",
    "scikit-learn",
    "scipy",
    "numpy",
    "Pillow",
    "PyYAML",
    "tqdm",
    "matplotlib",
    "iterative-stratification",
]
TEST_REQUIRES = ["pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "ruff", "mypy", "types-PyYAML"]

setup(
    name="semilearn-bbam",
    version="0.1.0",
    description="Semi-supervised multi-label learning for USB (semilearn), with S2ML2-BBAM",
    license="MIT",
    packages=find_packages(include=["semilearn_bbam*"]),
    package_data={"semilearn_bbam": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=REQUIRES,
    extras_require={"test": TEST_REQUIRES},
)
