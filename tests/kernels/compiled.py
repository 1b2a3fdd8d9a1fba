"""The Triton kernels compiled for an H100, where no GPU need be: nothing spilled, wide memory access, no tensor cores, little shared memory."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from megatron_snow.kernels import triton_kernels, triton_rows

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
SHARED = 227 * 1024  # bytes a block of an H100 can have
SIGNATURE = {
    "X": "*bf16", "stride": "i32", "TARGETS": "*i64", "SCALE": "*fp32", "scale_stride": "i32", "LOSSES": "*fp32", "OUT": "*fp32", "out_stride": "i32",
    "STATISTICS": "*fp32", "shard_stride": "i32", "statistic_stride": "i32", "V": "i32", "first": "i32", "vocabulary": "i32", "ignore_index": "i32",
    "z_loss": "fp32", "smoothing": "fp32",
}  # fmt: skip


def compiled(kernel: Any, columns: int, smooth: bool) -> tuple[Any, str]:
    """The kernel as it is launched for rows of ``columns`` bf16 logits, and its machine code."""
    shape = triton_rows._shape(columns, 2)
    constants = {name: value for name, value in {**shape, "SMOOTH": smooth, "SHARDS": 4}.items() if name in kernel.arg_names}
    aligned = ["X", "stride"] + (["V"] if columns % 16 == 0 else [])  # what the launcher finds out
    source = ASTSource(
        fn=kernel, signature={name: "constexpr" if name in constants else SIGNATURE[name] for name in kernel.arg_names},
        constexprs={(kernel.arg_names.index(name),): value for name, value in constants.items()},
        attrs={(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )  # fmt: skip
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": shape["num_warps"]})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(made.asm["cubin"])
        code = subprocess.run([str(TOOLS / "nvdisasm"), file.name], capture_output=True, text=True, check=True).stdout
    return made, code


def check(kernel: Any, columns: int, smooth: bool) -> None:
    made, code = compiled(kernel, columns, smooth)
    name = f"{kernel.__name__}, {columns} columns"
    assert ".target sm_90a" in made.asm["ptx"], name
    assert not re.search(r"\b(LDL|STL)\b", code), f"{name}: registers are spilled"
    assert "LDG.E.128" in code and ("STG.E.128" in code or kernel is triton_kernels.statistics_kernel), f"{name}: memory is not read and written 16 bytes wide"
    assert not re.search(r"\b(HGMMA|HMMA)\b", code), f"{name}: there is no product in it"
    assert made.metadata.shared <= SHARED, f"{name}: {made.metadata.shared} bytes of shared memory"
    print(name, made.metadata.num_warps, "warps,", made.metadata.shared, "bytes shared")


if __name__ == "__main__":
    for kernel in (triton_kernels.loss_and_gradient_kernel, triton_kernels.statistics_kernel, triton_kernels.gradient_kernel):
        for columns, smooth in ((49_152, False), (131_072, False), (50_000, True)):
            check(kernel, columns, smooth)
    print("all as they should be")
