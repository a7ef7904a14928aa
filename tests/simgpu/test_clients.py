"""Programs that were not written for the simulator run on it unchanged."""

import subprocess
import sys
from pathlib import Path

from tests.simgpu import installation
from tests.simgpu.installation import Installation

C_PROGRAM = r"""
#include <cuda.h>
#include <stdio.h>
int main(void) {
    CUdevice device; CUcontext context; CUdeviceptr memory; size_t bytes; char word[6] = "hello";
    if (cuInit(0) || cuDeviceGet(&device, 0) || cuCtxCreate(&context, NULL, 0, device)) return 1;
    if (cuDeviceTotalMem(&bytes, device) || cuMemAlloc(&memory, 4096)) return 2;
    if (cuMemcpyHtoD(memory, word, 6) || cuMemsetD8(memory, 'J', 1) || cuMemcpyDtoH(word, memory, 6)) return 3;
    printf("%s %zu\n", word, bytes);
    return cuMemFree(memory) || cuCtxDestroy(context);
}
"""
INCLUDE = next(Path(sys.prefix).glob("lib/python*/site-packages/nvidia/cu13/include"))


def test_nvidia_ml_py_sees_both_cards(machine: Installation) -> None:
    output = machine.run(
        "nvml.nvmlInit()\n"
        "for index in range(nvml.nvmlDeviceGetCount()):\n"
        "    card = nvml.nvmlDeviceGetHandleByIndex(index)\n"
        "    print(nvml.nvmlDeviceGetUUID(card), nvml.nvmlDeviceGetMemoryInfo(card, nvml.nvmlMemory_v2).total)"
    )
    assert output.splitlines() == [f"{card.uuid} {16 << 30}" for card in machine.show().cards]


def test_nvitop_prints_cards_and_processes(machine: Installation) -> None:
    client = machine.start("open_device()\ncheck(driver.cuMemAlloc(2 * GIB))\nready()\nrelease()")
    installation.await_ready(client)
    printed = machine.command(str(Path(sys.executable).with_name("nvitop")), "--once", "--ascii").stdout
    installation.finish(client)
    assert "Simulated 16GB" in printed
    assert str(client.pid) in printed
    assert "2348MiB" in printed


def test_cuda_bindings_fill_memory_with_a_kernel(machine: Installation) -> None:
    output = machine.run(
        "open_device()\n"
        "memory = check(driver.cuMemAlloc(4096))\n"
        "fill = Kernel('fill_u32', ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64)\n"
        "check(fill.launch(int(memory), 0xdeadbeef, 1024))\n"
        "words = (ctypes.c_uint32 * 1024)()\n"
        "check(driver.cuMemcpyDtoH(ctypes.addressof(words), memory, 4096))\n"
        "print(set(map(hex, words)))"
    )
    assert output == "{'0xdeadbeef'}"


def test_a_kernel_that_the_ptx_does_not_declare_is_not_found(machine: Installation) -> None:
    output = machine.run(
        "open_device()\n"
        "module = check(driver.cuModuleLoadData(b'.version 7.0\\n.visible .entry real(.param .u64 a) {}\\0'))\n"
        "print(int(driver.cuModuleGetFunction(module, b'real')[0]))\n"
        "print(int(driver.cuModuleGetFunction(module, b'none')[0]))"
    )
    assert output.split() == ["0", "500"]


def test_a_program_linked_with_the_driver_runs(machine: Installation, tmp_path: Path) -> None:
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(C_PROGRAM)
    compiler = [sys.executable, "-m", "ziglang", "cc", "-I", str(INCLUDE), str(source), "-o", str(program)]
    (machine.root / "lib" / "libcuda.so").symlink_to("libcuda.so.1")
    subprocess.run([*compiler, "-L", str(machine.root / "lib"), "-lcuda"], check=True)
    assert machine.command(str(program)).stdout == f"Jello {16 << 30}\n"


def test_visible_devices_selects_and_orders_for_cuda_but_not_for_nvml(machine: Installation) -> None:
    second = machine.show().cards[1].uuid
    code = (
        "check(driver.cuInit(0))\nnvml.nvmlInit()\n"
        "print(check(driver.cuDeviceGetCount()), check(driver.cuDeviceGetPCIBusId(16, 0))[:12].decode())\n"
        "print(nvml.nvmlDeviceGetCount())"
    )
    assert machine.run(code, CUDA_VISIBLE_DEVICES="1") == "1 0000:11:00.0\n2"
    assert machine.run(code, CUDA_VISIBLE_DEVICES=f"{second[:12]},0") == "2 0000:11:00.0\n2"
    assert machine.run(code, CUDA_VISIBLE_DEVICES="0,7,1") == "1 0000:10:00.0\n2"


def test_a_card_without_a_device_node_is_not_visible(machine: Installation) -> None:
    (machine.root / "dev" / "nvidia0").unlink()
    output = machine.run(
        "nvml.nvmlInit()\ncheck(driver.cuInit(0))\n"
        "print(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(0)), check(driver.cuDeviceGetCount()))"
    )
    assert output == f"{machine.show().cards[1].uuid} 1"


def test_without_the_control_node_there_is_no_driver(machine: Installation) -> None:
    (machine.root / "dev" / "nvidiactl").unlink()
    output = machine.run(
        "print(int(driver.cuInit(0)[0]))\ntry: nvml.nvmlInit()\nexcept nvml.NVMLError as error: print(error.value)"
    )
    assert output.split() == ["100", "9"]


def test_get_proc_address_honours_version_and_stream_mode(machine: Installation) -> None:
    output = machine.run(
        "check(driver.cuInit(0))\n"
        "flags = driver.CUdriverProcAddress_flags\n"
        "def ask(name, version, flag=flags.CU_GET_PROC_ADDRESS_DEFAULT):\n"
        "    return check(driver.cuGetProcAddress(name, version, flag))\n"
        "library = ctypes.CDLL('libcuda.so.1')\n"
        "def export(name): return ctypes.cast(getattr(library, name), ctypes.c_void_p).value\n"
        "print(ask(b'cuMemAlloc', 13000)[0] == export('cuMemAlloc_v2'))\n"
        "print(ask(b'cuCtxCreate', 11040)[0] == export('cuCtxCreate_v3'))\n"
        "per_thread = flags.CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM\n"
        "print(ask(b'cuLaunchKernel', 13000, per_thread)[0] == export('cuLaunchKernel_ptsz'))\n"
        "print(int(ask(b'cuMemAllocAsync', 10000)[1]), int(ask(b'cuNoSuchThing', 13000)[1]))"
    )
    assert output.split() == ["True", "True", "True", "2", "1"]
