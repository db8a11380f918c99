"""The rows of the GPU catalogue. Standard library only.

Rates are dense (no sparsity) at boost clock, in TFLOP/s; bandwidth in GB/s (10^9); memory in MiB as NVML reports it.
Tensor-core rates are those that accumulate in fp32, which training needs: on GeForce cards that is half the
advertised fp16 rate, on Titan, workstation and data-centre cards the whole one.
Memory: totals seen in public nvidia-smi outputs. `usable` is what CUDA offers, which is less wherever NVML counts
what the driver keeps (drivers from 510 on): seen as the total of older drivers, or in the words "total capacity" of
PyTorch's out-of-memory messages.
"""

from __future__ import annotations

from engine.gpus.gpu import Gpu
from engine.gpus.slices import slices
from engine.gpus.units import MIB

SMI = "nvidia-smi outputs in public issues"
OLDER = f"{SMI}; usable: the total of drivers before 510"
MEASURED = "measured by this project with driver 580, CUDA 13 and PyTorch 2.11, context and libraries too"
MESSAGE = f"{SMI}; usable: total capacity in PyTorch's messages"

_NO_FP16 = "Native fp16 runs at 1/64 of fp32; PyTorch multiplies fp16 with fp32 arithmetic: it saves memory, not time."
_P100_FP16 = "fp16 is twice as fast (18.7 TFLOP/s) only when it accumulates in fp16, which training does not."
_GEFORCE = "GeForce: tensor cores run at half rate when they accumulate in fp32, as training does."
_AMPERE = "NVIDIA Ampere GA102 whitepaper"
_ADA = "NVIDIA Ada GPU architecture whitepaper"
_BLACKWELL = "NVIDIA RTX Blackwell GPU architecture whitepaper"
_TURING = "NVIDIA Turing architecture whitepaper"


def _gpu(
    key: str,
    name: str,
    mib: int,
    usable: int | None,
    rates: tuple[float, float | None, float | None],
    bandwidth: float,
    capability: tuple[int, int],
    sms: int,
    watts: int,
    source: str,
    *,
    also: tuple[str, ...] = (),
    memory_source: str = OLDER,
    context: int | None = None,
    libraries: int | None = None,
    note: str = "",
) -> Gpu:
    """`rates`: fp32, TF32, and fp16 (also that of bf16 where the card has it), in TFLOP/s."""
    fp32, tf32, half = ((None if rate is None else rate * 1e12) for rate in rates)
    assert fp32 is not None
    return Gpu(
        key=key,
        name=name,
        also=also,
        memory_total=mib * MIB,
        usable_bytes=None if usable is None else usable * MIB,
        memory_source=memory_source,
        fp32=fp32,
        tf32=tf32,
        fp16=half,
        bf16=half if capability >= (8, 0) else None,
        memory_bandwidth=bandwidth * 1e9,
        compute_capability=capability,
        multiprocessors=sms,
        tdp_watts=watts,
        context_bytes=None if context is None else context * MIB,
        library_bytes=None if libraries is None else libraries * MIB,
        source=source,
        note=note,
    )


# fmt: off
_CARDS: tuple[Gpu, ...] = (
    _gpu("tesla-k80", "Tesla K80", 11441, 11441, (4.4, None, None), 240, (3, 7), 13, 150,
         "Tesla K80 datasheet, one of its two GPUs", memory_source="driver 470 and older, with ECC", note=_NO_FP16),
    _gpu("tesla-m40-12gb", "Tesla M40", 11448, 11443, (6.8, None, None), 288, (5, 2), 24, 250, "Tesla M40 datasheet",
         also=("m40",), note=_NO_FP16),
    _gpu("tesla-m40-24gb", "Tesla M40 24GB", 22945, 22939, (6.8, None, None), 288, (5, 2), 24, 250,
         "Tesla M40 datasheet", note=_NO_FP16),
    _gpu("tesla-p4", "Tesla P4", 7611, 7611, (5.5, None, None), 192, (6, 1), 20, 75, "Tesla P4 datasheet",
         memory_source="driver 470 with ECC, as the lecture's card", context=415, libraries=114, note=_NO_FP16),
    _gpu("tesla-p40", "Tesla P40", 22919, 22919, (12.0, None, None), 346, (6, 1), 30, 250, "Tesla P40 datasheet",
         memory_source=SMI, note=_NO_FP16),
    _gpu("tesla-p100-16gb", "Tesla P100-PCIE-16GB", 16384, 16280, (9.3, None, None), 732, (6, 0), 56, 250,
         "Tesla P100 datasheet", also=("p100",), note=_P100_FP16),
    _gpu("gtx-1050-ti", "NVIDIA GeForce GTX 1050 Ti", 4096, 4040, (2.1, None, None), 112, (6, 1), 6, 75,
         "GeForce GTX 1050 Ti specifications", note=_NO_FP16),
    _gpu("gtx-1060-6gb", "NVIDIA GeForce GTX 1060 6GB", 6144, 6072, (4.4, None, None), 192, (6, 1), 10, 120,
         "GeForce GTX 1060 specifications", also=("gtx 1060",), note=_NO_FP16),
    _gpu("gtx-1080", "NVIDIA GeForce GTX 1080", 8192, 8119, (8.9, None, None), 320, (6, 1), 20, 180,
         "GeForce GTX 1080 specifications", note=_NO_FP16),
    _gpu("gtx-1080-ti", "NVIDIA GeForce GTX 1080 Ti", 11264, 11178, (11.3, None, None), 484, (6, 1), 28, 250,
         "GeForce GTX 1080 Ti specifications", note=_NO_FP16),
    _gpu("titan-xp", "NVIDIA TITAN Xp", 12288, 12196, (12.1, None, None), 547.7, (6, 1), 30, 250,
         "NVIDIA TITAN Xp specifications", note=_NO_FP16),
    _gpu("titan-v", "NVIDIA TITAN V", 12288, 12066, (14.9, None, 110), 652.8, (7, 0), 80, 250,
         "NVIDIA TITAN V specifications"),
    _gpu("tesla-v100-16gb", "Tesla V100-SXM2-16GB", 16384, 16160, (15.7, None, 125), 900, (7, 0), 80, 300,
         "Tesla V100 datasheet"),
    _gpu("tesla-v100-32gb", "Tesla V100-SXM2-32GB", 32768, 32510, (15.7, None, 125), 900, (7, 0), 80, 300,
         "Tesla V100 datasheet"),
    _gpu("tesla-v100-pcie-16gb", "Tesla V100-PCIE-16GB", 16384, 16160, (14.0, None, 112), 900, (7, 0), 80, 250,
         "Tesla V100 datasheet"),
    _gpu("tesla-v100-pcie-32gb", "Tesla V100-PCIE-32GB", 32768, 32510, (14.0, None, 112), 900, (7, 0), 80, 250,
         "Tesla V100 datasheet"),
    _gpu("tesla-t4", "Tesla T4", 15360, 15109, (8.1, None, 65), 320, (7, 5), 40, 70, "Tesla T4 datasheet"),
    _gpu("gtx-1650", "NVIDIA GeForce GTX 1650", 4096, 3911, (3.0, None, None), 128, (7, 5), 14, 75,
         "GeForce GTX 1650 specifications",
         note="No tensor cores: PyTorch multiplies fp16 with fp32 arithmetic, which saves memory, not time."),
    _gpu("rtx-2060", "NVIDIA GeForce RTX 2060", 6144, 5934, (6.5, None, 25.8), 336, (7, 5), 30, 160,
         f"GeForce RTX 2060 specifications; rates per multiprocessor of the {_TURING}", note=_GEFORCE),
    _gpu("rtx-2080", "NVIDIA GeForce RTX 2080", 8192, 7982, (10.1, None, 40.3), 448, (7, 5), 46, 215, _TURING,
         note=_GEFORCE),
    _gpu("rtx-2080-ti", "NVIDIA GeForce RTX 2080 Ti", 11264, 11019, (13.4, None, 53.8), 616, (7, 5), 68, 250, _TURING,
         note=_GEFORCE),
    _gpu("titan-rtx", "NVIDIA TITAN RTX", 24576, 24190, (16.3, None, 130.5), 672, (7, 5), 72, 280, _TURING),
    _gpu("quadro-rtx-8000", "Quadro RTX 8000", 49152, 48601, (16.3, None, 130.5), 672, (7, 5), 72, 260, _TURING,
         memory_source=f"{OLDER}, without ECC"),
    _gpu("rtx-3060-12gb", "NVIDIA GeForce RTX 3060", 12288, 12053, (12.7, 12.7, 25.5), 360, (8, 6), 28, 170,
         f"GeForce RTX 3060 specifications; rates per multiprocessor of the {_AMPERE}", note=_GEFORCE),
    _gpu("rtx-3070", "NVIDIA GeForce RTX 3070", 8192, 7982, (20.3, 20.3, 40.6), 448, (8, 6), 46, 220,
         f"GeForce RTX 3070 specifications; rates per multiprocessor of the {_AMPERE}", note=_GEFORCE),
    _gpu("rtx-3080-10gb", "NVIDIA GeForce RTX 3080", 10240, 10018, (29.8, 29.8, 59.5), 760, (8, 6), 68, 320, _AMPERE,
         note=_GEFORCE),
    _gpu("rtx-3090", "NVIDIA GeForce RTX 3090", 24576, 24268, (35.6, 35.6, 71.0), 936, (8, 6), 82, 350, _AMPERE,
         note=_GEFORCE),
    _gpu("rtx-4060-ti-16gb", "NVIDIA GeForce RTX 4060 Ti", 16380, None, (22.1, 22.1, 44.1), 288, (8, 9), 34, 165,
         f"GeForce RTX 4060 Ti specifications; rates per multiprocessor of the {_ADA}", memory_source=SMI,
         note=_GEFORCE),
    _gpu("rtx-4070", "NVIDIA GeForce RTX 4070", 12282, None, (29.1, 29.1, 58.3), 504, (8, 9), 46, 200,
         f"GeForce RTX 4070 specifications; rates per multiprocessor of the {_ADA}", memory_source=SMI, note=_GEFORCE),
    _gpu("rtx-4080", "NVIDIA GeForce RTX 4080", 16376, None, (48.7, 48.7, 97.5), 716.8, (8, 9), 76, 320, _ADA,
         memory_source=SMI, note=_GEFORCE),
    _gpu("rtx-4090", "NVIDIA GeForce RTX 4090", 24564, 24207, (82.6, 82.6, 165.2), 1008, (8, 9), 128, 450, _ADA,
         memory_source=MESSAGE, note=_GEFORCE),
    _gpu("rtx-5080", "NVIDIA GeForce RTX 5080", 16303, None, (56.3, 56.3, 112.6), 960, (12, 0), 84, 360, _BLACKWELL,
         memory_source=SMI, note=_GEFORCE),
    _gpu("rtx-5090", "NVIDIA GeForce RTX 5090", 32607, 32113, (104.8, 104.8, 209.5), 1792, (12, 0), 170, 575,
         _BLACKWELL, memory_source=MESSAGE, note=_GEFORCE),
    _gpu("rtx-a4000", "NVIDIA RTX A4000", 16376, 16117, (19.2, 38.3, 76.7), 448, (8, 6), 48, 140,
         "NVIDIA RTX A4000 datasheet (tensor rate there with sparsity)"),
    _gpu("rtx-a5000", "NVIDIA RTX A5000", 24564, 24256, (27.8, 55.6, 111.1), 768, (8, 6), 64, 230,
         "NVIDIA RTX A5000 datasheet (tensor rate there with sparsity)"),
    _gpu("rtx-a6000", "NVIDIA RTX A6000", 49140, 48685, (38.7, 77.4, 154.8), 768, (8, 6), 84, 300, _AMPERE),
    _gpu("rtx-4000-ada", "NVIDIA RTX 4000 Ada Generation", 20475, None, (26.7, 53.4, 106.8), 360, (8, 9), 48, 130,
         f"NVIDIA RTX 4000 Ada datasheet; rates per multiprocessor of the {_ADA}", memory_source=SMI),
    _gpu("rtx-6000-ada", "NVIDIA RTX 6000 Ada Generation", 49140, None, (91.1, 182.1, 364.2), 960, (8, 9), 142, 300,
         _ADA, memory_source=SMI),
    _gpu("rtx-pro-6000", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, 97247, (126.0, 251.9, 503.8), 1792,
         (12, 0), 188, 600, "NVIDIA RTX Blackwell PRO GPU architecture whitepaper (tensor rates there with sparsity)",
         also=("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
               "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
         memory_source=f"{SMI}; usable: what CUDA says in ggml-org/llama.cpp#23604",
         note="The Max-Q and server editions are slower: 300 W; 1,597 GB/s."),
    _gpu("a10g", "NVIDIA A10G", 23028, 22723, (31.5, 35, 70), 600, (8, 6), 80, 300, "NVIDIA A10G datasheet",
         memory_source=f"{SMI}; usable: PyTorch's `total_memory` with drivers before 510"),
    _gpu("a10", "NVIDIA A10", 23028, 22731, (31.2, 62.5, 125), 600, (8, 6), 72, 150, "NVIDIA A10 datasheet"),
    _gpu("a30", "NVIDIA A30", 24576, 24258, (10.3, 82, 165), 933, (8, 0), 56, 165, "NVIDIA A30 datasheet"),
    _gpu("a40", "NVIDIA A40", 46068, 45634, (37.4, 74.8, 149.7), 696, (8, 6), 84, 300, "NVIDIA A40 datasheet",
         memory_source=f"{SMI}; usable: as the RTX A6000 with ECC on drivers before 510, the same chip and memory"),
    _gpu("a100-40gb", "NVIDIA A100-SXM4-40GB", 40960, 40536, (19.5, 156, 312), 1555, (8, 0), 108, 400,
         "NVIDIA A100 datasheet", also=("NVIDIA A100-PCIE-40GB",), note="The PCIe card has the same rates at 250 W."),
    _gpu("a100-80gb", "NVIDIA A100-SXM4-80GB", 81920, 81251, (19.5, 156, 312), 2039, (8, 0), 108, 400,
         "NVIDIA A100 80GB datasheet"),
    _gpu("a100-pcie-80gb", "NVIDIA A100 80GB PCIe", 81920, None, (19.5, 156, 312), 1935, (8, 0), 108, 300,
         "NVIDIA A100 80GB datasheet", memory_source=SMI),
    _gpu("l4", "NVIDIA L4", 23034, None, (30.3, 60.5, 121), 300, (8, 9), 58, 72,
         "NVIDIA L4 datasheet (tensor rates there with sparsity)", memory_source=SMI),
    _gpu("l40s", "NVIDIA L40S", 46068, 45465, (91.6, 183, 362), 864, (8, 9), 142, 350, "NVIDIA L40S datasheet",
         memory_source=f"{MESSAGE} on the L40, the same chip and memory"),
    _gpu("h100-80gb", "NVIDIA H100 80GB HBM3", 81559, None, (66.9, 494.7, 989.4), 3350, (9, 0), 132, 700,
         "NVIDIA H100 architecture whitepaper and datasheet (SXM5)", also=("h100", "h100 sxm"), memory_source=SMI),
    _gpu("h100-pcie-80gb", "NVIDIA H100 PCIe", 81559, None, (51.2, 378, 756), 2039, (9, 0), 114, 350,
         "NVIDIA H100 datasheet (PCIe; tensor rates there with sparsity)", memory_source=SMI),
    _gpu("h100-nvl", "NVIDIA H100 NVL", 95830, 94849, (60.0, 417.5, 835.5), 3938, (9, 0), 132, 400,
         "NVIDIA H100 NVL datasheet (per GPU; tensor rates there with sparsity)",
         memory_source=f"{SMI}; usable: PyTorch's `total_memory`"),
    _gpu("gh200", "NVIDIA GH200 480GB", 97871, None, (66.9, 494.7, 989.4), 4000, (9, 0), 132, 900,
         "NVIDIA GH200 datasheet (96 GB of HBM3; tensor rates there with sparsity)", memory_source=SMI,
         note="The host's memory, which its GPU can reach too, is not counted."),
    _gpu("h200", "NVIDIA H200", 143771, 143156, (66.9, 494.7, 989.4), 4800, (9, 0), 132, 700,
         "NVIDIA H200 datasheet (SXM; tensor rates there with sparsity)", memory_source=MEASURED, context=527,
         libraries=240),
    _gpu("b200", "NVIDIA B200", 183359, None, (75.0, 1125, 2250), 8000, (10, 0), 148, 1000,
         "NVIDIA Blackwell datasheet (HGX B200, per GPU; tensor rates there with sparsity)", memory_source=SMI),
    _gpu("gb200", "NVIDIA GB200", 189471, None, (80.0, 1250, 2500), 8000, (10, 0), 152, 1200,
         "NVIDIA GB200 NVL72 datasheet (per GPU; tensor rates there with sparsity)", memory_source=SMI),
    _gpu("gb10", "NVIDIA GB10", 124552, 124552, (31.0, 62.5, 125), 273, (12, 1), 48, 140,
         "NVIDIA DGX Spark specifications (1 PFLOP/s of fp4 with sparsity, an eighth of it in bf16)",
         memory_source="PyTorch's `total_memory`; NVML tells none, as the memory is the host's too",
         note="Its memory is shared with the host: what other programs have of it is not there for training."),
)
# fmt: on

ROWS: tuple[Gpu, ...] = (*_CARDS, *slices({gpu.key: gpu for gpu in _CARDS}))
