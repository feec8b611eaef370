# SPDX-License-Identifier: GPL-2.0
"""From the lab's command line to QEMU's."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from labvm import options, qemu

FDS = {"qmp": 10, "out": 11, "err": 12, "status": 13}
FILES = qemu.Files(
    image=Path("/k/vmlinuz"),
    initrd=Path("/run/initrd"),
    serial=Path("/run/serial.log"),
    shared=Path("/b/out"),
    firmware_vars=Path("/run/vars.fd"),
)


def line(*argv: str, fds: dict[str, int] = FDS) -> list[str]:
    return qemu.command(options.parse(argv), qemu.Emulator(), FILES, fds)


def values(command: list[str], option: str) -> list[str]:
    return [command[i + 1] for i, word in enumerate(command) if word == option]


@pytest.mark.parametrize("argv", [["--", "sh", "-c", "exit 7"], ["sh", "-c", "exit 7"]])
def test_the_command_is_taken_as_it_stands(argv: list[str]) -> None:
    parsed = options.parse(["--cpus", "6", *argv])
    assert parsed.command == ("sh", "-c", "exit 7")
    assert parsed.cpus == 6


def test_options_behind_the_command_belong_to_it() -> None:
    parsed = options.parse(["ls", "--memory", "--", "x"])
    assert parsed.command == ("ls", "--memory", "--", "x")
    assert parsed.memory == "3G"


def test_no_command_is_a_shell_on_the_terminal() -> None:
    assert options.parse([]).interactive
    command = line(fds={"qmp": 10, "status": 13})
    assert "virtconsole,chardev=tty" in values(command, "-device")
    assert not any("name=out" in device for device in values(command, "-device"))


@pytest.mark.parametrize(
    "argv",
    [
        ["--kernel", "2.6"],
        ["--secondary-kernels", "6.12,nope"],
        ["--machine", "pc"],
        ["--cpu", "2"],
    ],
)
def test_a_wrong_option_is_a_usage_error(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        options.parse([*argv, "true"])
    assert error.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_secondaries_are_a_list() -> None:
    assert options.parse(["--secondary-kernels", "6.12,7.2"]).secondaries == ("6.12", "7.2")


@pytest.mark.parametrize("machine", options.MACHINES)
@pytest.mark.parametrize("firmware", options.FIRMWARES)
def test_always_emulates_and_never_reboots(machine: str, firmware: str) -> None:
    command = line("--machine", machine, "--firmware", firmware, "true")
    assert values(command, "-accel") == ["tcg,thread=multi"]
    assert not values(command, "-icount")
    counting = line("--icount", "ls")
    assert values(counting, "-accel") == ["tcg,thread=single"]
    assert values(counting, "-icount") == ["shift=0,sleep=off"]
    assert "-enable-kvm" not in command
    assert "-no-reboot" in command


def test_the_root_is_read_only_and_only_the_shared_directory_is_not() -> None:
    shares = values(line("true"), "-fsdev")
    assert [share for share in shares if "readonly=on" not in share] == [
        "local,id=shared,path=/b/out,security_model=none,multidevs=forbid"
    ]
    assert any("path=/,security_model=none" in share for share in shares)


def test_one_file_system_needs_no_other_inode_numbers() -> None:
    """Numbers of several must be told apart, or the guest takes one file for another."""
    assert "path=/,security_model=none,multidevs=remap" in values(line("true"), "-fsdev")[0]
    files = dataclasses.replace(FILES, view=Path("/view"))
    command = qemu.command(options.parse(["true"]), qemu.Emulator(), files, FDS)
    assert "path=/view,security_model=none,multidevs=forbid" in values(command, "-fsdev")[0]
    assert qemu.in_view(command, Path("/view"))[-len(command) :] == command


def test_x2apic_comes_with_interrupt_remapping() -> None:
    command = line("--machine", "x2apic", "true")
    assert values(command, "-machine") == ["q35,kernel-irqchip=split"]
    assert "intel-iommu,intremap=on,eim=on" in values(command, "-device")
    # The IOMMU must be there before the devices that it remaps.
    assert values(command, "-device")[0].startswith("intel-iommu")
    assert values(command, "-cpu") == ["max,-erms,-fsrm,+x2apic"]


def test_uefi_has_its_own_copy_of_the_variables() -> None:
    code, variables = values(line("--firmware", "uefi", "true"), "-drive")
    assert "readonly=on" in code and str(qemu.OVMF_CODE) in code
    assert "readonly" not in variables and "/run/vars.fd" in variables
    assert values(line("true"), "-drive") == []


def test_serial2_is_the_second_port() -> None:
    command = line("--serial2", "/tmp/second", "true")
    assert values(command, "-serial") == ["file:/run/serial.log", "file:/tmp/second"]


def test_append_follows_the_labs_own_words() -> None:
    (append,) = values(line("--append", "memmap=512M$0x40000000 quiet", "true"), "-append")
    assert append.split()[0] == "console=ttyS0"
    assert append.endswith(" memmap=512M$0x40000000 quiet")


def test_every_port_is_connected_to_its_socket() -> None:
    command = line("true")
    for name in qemu.PORTS:
        assert f"socket,id={name},fd={FDS[name]}" in values(command, "-chardev")
        assert f"virtserialport,chardev={name},name={name}" in values(command, "-device")
    assert values(command, "-mon") == ["chardev=qmp,mode=control"]


def test_another_emulator_brings_its_firmware_and_libraries() -> None:
    newer = qemu.Emulator(
        Path("/q/bin"), (Path("/q/a"), Path("/q/b")), (Path("/q/l"),), Path("/q/m")
    )
    command = qemu.command(options.parse(["true"]), newer, FILES, FDS)
    assert command[0] == "/q/bin"
    assert values(command, "-L") == ["/q/a", "/q/b"]
    assert newer.environment() == {"LD_LIBRARY_PATH": "/q/l", "QEMU_MODULE_DIR": "/q/m"}
