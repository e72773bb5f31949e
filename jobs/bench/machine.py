"""The machine: what it is, and the most that it can do."""

import platform
from pathlib import Path

import torch

from jobs.bench.counting import copy_gigabytes, peak_megabytes, product_gflops
from jobs.bench.job import Figures, say
from jobs.bench.subject import Subject
from models.int8 import has_int8
from pipeline.render.speech_precision import has_bfloat16

CPU_INFO = Path("/proc/cpuinfo")
DRIVER = Path("/proc/driver/nvidia/version")


def measure_machine(subject: Subject) -> Figures:
    """Names and versions; on a GPU also what PyTorch says about it."""
    figures: Figures = {
        "cpu": cpu_name(),
        "cores": subject.job.cores,
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16_on_cpu": has_bfloat16("cpu"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "onednn": torch.backends.mkldnn.is_available(),
    }
    if subject.device.type == "cuda":
        about = torch.cuda.get_device_properties(subject.device)
        free, total = torch.cuda.mem_get_info(subject.device)
        figures |= {
            "gpu": about.name,
            "compute_capability": f"{about.major}.{about.minor}",
            "multiprocessors": about.multi_processor_count,
            "gpu_memory_gb": total / 1e9,
            "free_gpu_memory_gb": free / 1e9,
            "cudnn": torch.backends.cudnn.version(),
            "driver": DRIVER.read_text().split("\n")[0] if DRIVER.exists() else "not known",
            "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        }
    say(f"  {figures.get('gpu') or figures['cpu']}, {figures['cores']} CPUs, PyTorch {figures['torch']}")
    return figures


def cpu_name() -> str:
    """Name of the CPU as Linux gives it."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def measure_ceilings(subject: Subject) -> Figures:
    """The fastest large product and convolution of each type in GFLOP/s, and the fastest copy in GB/s."""
    gpu = subject.device.type == "cuda"
    types = ["float32", "tf32", "float16"] if gpu else ["float32"]
    if has_bfloat16(subject.device.type):
        types.append("bfloat16")
    if not gpu and has_int8():
        types.append("int8")
    figures: Figures = {}
    for name in types:
        matrix, convolution = product_gflops(subject.device, name, size=subject.sizes.product)
        figures[f"{name}_matrix_gflops"], figures[f"{name}_convolution_gflops"] = matrix, convolution
        figures[f"{name}_gflops"] = max(matrix, convolution)
        say(f"  {name}: matrices {matrix:.0f}, convolutions {convolution:.0f} GFLOP/s")
    figures["copy_gb_per_second"] = copy_gigabytes(subject.device, subject.sizes.copied)
    say(f"  copies: {figures['copy_gb_per_second']:.1f} GB/s, read and written")
    return figures


def memory(subject: Subject) -> Figures:
    """Peak memory of this process so far, in GB, and of its GPU."""
    figures: Figures = {"peak_memory_gb": peak_megabytes() / 1000}
    if subject.device.type == "cuda":
        figures["peak_gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        figures["reserved_gpu_memory_gb"] = torch.cuda.max_memory_reserved() / 1e9
    return figures
